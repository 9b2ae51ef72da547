"""A stand-in for Kuscia's data mesh beside a task. SecretFlow's own Python runs it: it needs SecretFlow's modules.

It tells a task of the tables of one party, lets it read and write them in place, and keeps what the task makes for the
next one. Kuscia's own serves the data over a stream besides. `python data_mesh.py STATE.json`
"""
# mypy: ignore-errors

from __future__ import annotations

import json
import sys
from concurrent import futures
from pathlib import Path

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from kuscia.proto.api.v1alpha1.datamesh import domaindata_pb2 as data
from kuscia.proto.api.v1alpha1.datamesh import domaindata_pb2_grpc as data_grpc
from kuscia.proto.api.v1alpha1.datamesh import domaindatasource_pb2 as source
from kuscia.proto.api.v1alpha1.datamesh import domaindatasource_pb2_grpc as source_grpc

ADDRESS = "127.0.0.1:8071"
NOT_FOUND = 11100


class Data(data_grpc.DomainDataServiceServicer):
    """DomainData, by id."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _all(self) -> dict:
        return json.loads(self._path.read_text())

    def QueryDomainData(self, request, _context):
        found = self._all()["data"].get(request.domaindata_id)
        if found is None:
            return data.QueryDomainDataResponse(status={"code": NOT_FOUND, "message": request.domaindata_id})
        return data.QueryDomainDataResponse(data=ParseDict(found, data.DomainData()))

    def CreateDomainData(self, request, _context):
        state = self._all()
        made = {k: v for k, v in MessageToDict(request).items() if k != "header"}
        state["data"][request.domaindata_id] = {**made, "author": state["party"]}
        self._path.write_text(json.dumps(state))
        return data.CreateDomainDataResponse(data={"domaindata_id": request.domaindata_id})


class Source(source_grpc.DomainDataSourceServiceServicer):
    """The one place where data lie."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def QueryDomainDataSource(self, _request, _context):
        found = json.loads(self._path.read_text())["source"]
        return source.QueryDomainDataSourceResponse(data=ParseDict(found, source.DomainDataSource()))


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(4))
    data_grpc.add_DomainDataServiceServicer_to_server(Data(Path(sys.argv[1])), server)
    source_grpc.add_DomainDataSourceServiceServicer_to_server(Source(Path(sys.argv[1])), server)
    assert server.add_insecure_port(ADDRESS)
    server.start()
    server.wait_for_termination()
