"""Debian's MariaDB behind an entry point that takes what upstream's takes: that image cannot be had everywhere."""

from __future__ import annotations

import docker

from tests.kuscia import built_image

ENTRY = """\
#!/bin/sh
# Once, on an empty volume: a database and its user, and root from within alone. Then the server, as its own user.
set -eu
chown mysql: /var/lib/mysql
as_mysql() { setpriv --reuid mysql --regid mysql --clear-groups -- "$@"; }
if [ ! -d /var/lib/mysql/mysql ]; then
    as_mysql mariadb-install-db --skip-test-db --auth-root-authentication-method=normal >/dev/null
    password=$(cat "$MARIADB_PASSWORD_FILE")
    as_mysql mariadbd --bootstrap <<SQL
FLUSH PRIVILEGES;
CREATE DATABASE $MARIADB_DATABASE;
CREATE USER $MARIADB_USER@'%' IDENTIFIED BY '$password';
GRANT ALL ON $MARIADB_DATABASE.* TO $MARIADB_USER@'%';
SQL
fi
exec setpriv --reuid mysql --regid mysql --clear-groups -- mariadbd --bind-address=0.0.0.0
"""
CHECK = """\
#!/bin/sh
[ "$*" = "--connect --innodb_initialized" ] && exec mariadb-admin --user=root --protocol=socket ping
"""
RECIPE = """\
FROM {base}
USER root
RUN apt-get update -q && apt-get install -yq --no-install-recommends mariadb-server && rm -rf /var/lib/apt/lists/* \\
 && rm -rf /var/lib/mysql && install -d -o mysql -g mysql /var/lib/mysql /run/mysqld
COPY healthcheck.sh docker-entrypoint.sh /usr/local/bin/
VOLUME /var/lib/mysql
HEALTHCHECK NONE
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["mariadbd"]
"""


def build(engine: docker.DockerClient, base: str, name: str) -> str:
    """The image's id. `base`: an image of Debian that can reach its archive."""
    programs = {"docker-entrypoint.sh": ENTRY, "healthcheck.sh": CHECK}
    return built_image.build(engine, name, RECIPE.format(base=base), programs)
