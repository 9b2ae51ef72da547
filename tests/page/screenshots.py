"""Takes the pictures of docs/images from a real run: `python tests/page/screenshots.py FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from page_rig import OPERATOR_TOKEN, TALKATIVE, Running
from playwright.sync_api import Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "coordinator"))
from coordinator_rig import job_folder
from test_settings_and_parts import certificate

PARTIES = ["alice", "bob", "carol"]


def folder(name: str, description: str, steps: int) -> bytes:
    """A job that reads one dataset of alice and bob."""
    datasets = {"alice": ["customers"], "bob": ["customers"]}
    parameters = {"steps": steps, "pause_s": 0.15}
    return job_folder(PARTIES, TALKATIVE, name=name, description=description, parameters=parameters, datasets=datasets)


def play(running: Running, page: Page, target: Path) -> None:
    """A morning at alice: two jobs have ended, one runs, one waits for a person."""
    rig, do = running.rig, running.do
    page.goto(running.url("alice"))
    page.get_by_label("Operator's token").fill(OPERATOR_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    overlap = folder("customer-overlap", "How many customers do we share? Only the count is shown.", 2)
    do(rig.end(do(rig.submit("alice", overlap))))
    do(rig.end(do(rig.submit("alice", parameters={"fails": {"bob": "error"}}))))
    runs = do(rig.submit("alice", folder("credit-score", "Logistic regression over three tables.", 400)))
    do(rig.until(runs, "running"))
    do(rig.submit("bob", folder("fraud-overlap", "Accounts that both of us closed for fraud, as a count.", 2)))
    expect(page.get_by_role("button", name="Approve")).to_be_enabled()
    expect(page.locator(f"#row-{runs} .tag")).to_have_text("running")
    shoot(page, target / "home-light.png")
    page.emulate_media(color_scheme="dark")
    shoot(page, target / "home-dark.png")
    page.emulate_media(color_scheme="light")
    page.goto(running.url("alice", f"/jobs/{runs}"))
    expect(page.locator("#log-text")).to_contain_text("step 12 of")
    page.set_viewport_size({"width": 1100, "height": 1150})
    page.screenshot(path=target / "job.png")


def shoot(page: Page, path: Path) -> None:
    """The whole page."""
    page.screenshot(path=path, full_page=True)


def main(target: Path) -> None:
    """Write the pictures."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        (Path(home) / "gateway.crt").write_bytes(certificate(243))
        settings = {
            "slots": 2,
            "policy": lambda p: {"default": "person" if p == "alice" else "approve"},
            "certificate_file": str(Path(home) / "gateway.crt"),
            "datasets": lambda p: {"customers": str(Path(home) / p / "data.csv")},
        }
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        with Running(Path(home), PARTIES, **settings) as running:
            play(running, browser.new_page(viewport={"width": 1100, "height": 800}), target)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
