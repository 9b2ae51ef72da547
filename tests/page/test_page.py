"""The status page as a person meets it: a real Chromium against two real coordinators."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from coordinator_rig import OPERATOR_TOKEN, job_folder
from page_rig import TALKATIVE, Running, Watched
from playwright.sync_api import Page, expect

ACCESSIBLE = (Path(__file__).parent / "accessible.js").read_text("utf-8")
EXPECTED_ERROR = "Failed to load resource"  # what Chromium says of every answer from 400 on


def talkative(steps: int, pause_s: float = 0.3) -> bytes:
    """A job whose drivers print a line now and then."""
    return job_folder(["alice", "bob"], TALKATIVE, name="overlap", parameters={"steps": steps, "pause_s": pause_s})


async def asked(running: Running, job_id: str) -> None:
    """Wait until alice can approve the job: its program is there."""
    while not (await running.rig.job("alice", job_id)).get("bundle_ready"):
        await asyncio.sleep(0.05)


def mark(page: Page) -> None:
    """To be seen later: a page that was loaded anew has no mark."""
    page.evaluate("window.notReloaded = true")


def not_reloaded(page: Page) -> bool:
    return bool(page.evaluate("window.notReloaded === true"))


def test_signing_in_and_out(stranger: Watched, running: Running) -> None:
    page = stranger.page
    stranger.expected.append(EXPECTED_ERROR)
    page.goto(running.url("alice"))
    assert page.evaluate("document.activeElement.id") == "token"
    page.keyboard.type("not-the-token-of-alice")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="This is not the token")).to_be_visible()
    assert page.evaluate(ACCESSIBLE) == []
    page.keyboard.type(OPERATOR_TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(running.url("alice", "/audit"))
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_what_the_browser_is_allowed(person: Watched, running: Running) -> None:
    """A script or style that is not ours does not run, even if it got into the page."""
    page = person.page
    answer = page.goto(running.url("alice"))
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    first, second = (re.search(r"nonce-([^']+)", h) for h in (policy, page.reload().headers["content-security-policy"]))  # type: ignore[union-attr]
    assert first and second and first[1] != second[1]
    person.expected.append("Content Security Policy")
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1180, 380])
def test_every_page_can_be_read_by_everyone(person: Watched, running: Running, scheme: str, width: int) -> None:
    page, rig = person.page, running.rig
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate(ACCESSIBLE) == []  # empty states
    failed = running.do(rig.submit("alice", parameters={"fails": {"bob": "error"}}))
    running.do(rig.end(failed))
    long_name = "a" * 32
    text = {
        "description": "x" * 1900,
        "parameters": {"k" * 300: "v" * 300, "<b>": "</script><script>alert(1)</script>"},
    }
    asked = running.do(rig.submit("bob", job_folder(["alice", "bob"], name=long_name, **text)))
    running.do(rig.until(asked, "proposed", "alice"))
    for path in ("/", f"/jobs/{failed}", f"/jobs/{asked}", "/audit", "/policy", "/?phase=failed&initiator=alice"):
        page.goto(running.url("alice", path))
        for details in page.locator("details").all():
            details.evaluate("e => e.open = true")
        assert page.evaluate(ACCESSIBLE) == [], path
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) < 60) == (scheme == "dark")


def test_the_check_of_pages_finds_what_is_wrong(person: Watched) -> None:
    faults = """
      <h4>deep</h4> <input> <nav></nav> <p id="as-of">again</p> <label for="nothing">?</label>
      <p class="pale">pale</p> <div class="broad">.</div>"""
    person.page.evaluate(
        """html => {
          document.querySelector('main').insertAdjacentHTML('beforeend', html);
          document.querySelector('.pale').style.color = '#999';
          document.querySelector('.broad').style.width = '3000px';
        }""",
        faults,
    )
    found = "\n".join(person.page.evaluate(ACCESSIBLE))
    wrong = ("H4 after level 2", "no name: <input>", "nav without", "id twice: as-of", "nowhere: nothing", "scrolls")
    for words in (*wrong, "contrast 2."):
        assert words in found


def test_a_job_appears_is_approved_by_keyboard_and_ends_before_ones_eyes(person: Watched, running: Running) -> None:
    """Nothing but Tab, Enter and typing; the page is never reloaded by itself."""
    page, rig = person.page, running.rig
    mark(page)
    job_id = running.do(rig.submit("bob", talkative(12)))
    field = page.get_by_label("Reason (optional, signed and shown to all parties)")
    expect(field).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\(1\) "))
    expect(page.get_by_role("button", name="Approve")).to_be_enabled()  # once the program is here
    assert not_reloaded(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(30):
        page.keyboard.press("Tab")
        where = page.evaluate("[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]")
        assert where[1] != "none", f"the focus cannot be seen on {where[0]}"
        if where[0] == f"reason-{job_id}":
            break
    else:
        raise AssertionError("Tab does not reach the reason")
    page.keyboard.type("read it, looks fine")
    before = page.locator("#as-of").inner_text()
    other = running.do(rig.submit("bob", talkative(1)))  # comes to stand above the one that is being answered
    expect(page.locator(f"#ask-{other}")).to_be_visible()
    expect(page).to_have_title(re.compile(r"^\(2\) "))
    page.wait_for_timeout(2500)  # one more update
    assert page.locator("#as-of").inner_text() != before
    assert page.evaluate("[document.activeElement.id, document.activeElement.value]") == [
        f"reason-{job_id}",
        "read it, looks fine",
    ]
    assert not_reloaded(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").startswith("Approve")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/jobs/{job_id}")
    mark(page)
    expect(page.get_by_text("read it, looks fine")).to_be_visible()
    log = page.locator("#log-text")
    expect(log).to_contain_text("step 2 of 12")
    expect(page.locator(".head .tag")).to_have_text("running")
    expect(page.locator(".head .tag")).to_have_text("succeeded")
    expect(page.get_by_role("status")).to_have_text("The job is succeeded.")
    expect(log).to_contain_text("step 12 of 12")
    assert log.evaluate("e => e.scrollTop + e.clientHeight >= e.scrollHeight - 4"), "the log does not follow"
    assert not_reloaded(page)
    said = running.do(rig.job("bob", job_id))["approvals"]["alice"]
    assert (said["verdict"], said["by"], said["reason"]) == ("approve", "person", "read it, looks fine")
    page.goto(running.url("alice"))
    expect(page.locator(f"#row-{job_id} .tag")).to_have_text("succeeded")


def test_the_program_comes_while_the_page_is_open(person: Watched, running: Running) -> None:
    """What was opened by hand stays open over updates, what was closed stays closed."""
    page, rig = person.page, running.rig
    job_id = running.do(rig.submit("bob", talkative(1)))
    running.do(rig.until(job_id, "proposed", "alice"))
    bundle = rig.running["alice"].context.bundle_path(
        running.do(rig.job("alice", job_id))["proposal"]["program_digest"]
    )
    page.goto(running.url("alice", f"/jobs/{job_id}"))
    program = page.get_by_role("region", name="Text of main.py")
    expect(program).to_contain_text("Counts, in place of a computation")
    content = bundle.read_bytes()
    bundle.unlink()
    page.reload()
    mark(page)
    expect(page.get_by_text("has not arrived from bob yet.")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()
    bundle.write_bytes(content)
    expect(program).to_contain_text("Counts, in place of a computation")
    expect(page.get_by_role("button", name="Approve")).to_be_enabled()
    page.locator("summary", has_text="main.py").click()
    page.locator("summary", has_text="statements").click()
    page.wait_for_timeout(4500)
    expect(program).to_be_hidden()
    expect(page.locator("#statements")).to_have_attribute("open", "")
    page.locator("summary", has_text="main.py").click()
    expect(program).to_contain_text("Counts, in place of a computation")
    assert not_reloaded(page)


def test_a_peer_goes_away_and_comes_back(person: Watched, running: Running) -> None:
    page, rig = person.page, running.rig
    mark(page)
    state = page.locator("#peer-bob .tag")
    expect(state).to_have_text("up")
    rig.cut |= {("alice", "bob"), ("bob", "alice")}
    expect(state).to_have_text("down")
    expect(page.locator("#attention")).to_contain_text("bob is down: last heard")
    expect(page.get_by_role("status")).to_contain_text("bob is down")
    rig.cut.clear()
    expect(state).to_have_text("up")
    expect(page.locator("#attention")).to_have_count(0)
    assert not_reloaded(page)


def test_a_running_job_is_cancelled(person: Watched, running: Running) -> None:
    page, rig = person.page, running.rig
    job_id = running.do(rig.submit("alice", talkative(300)))
    running.do(rig.until(job_id, "running"))
    page.goto(running.url("alice", f"/jobs/{job_id}"))
    page.get_by_label("Reason (optional, signed and shown to all parties)").fill("wrong month")
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".head .tag")).to_have_text("cancelled")
    assert running.do(rig.end(job_id)) == "cancelled"


def test_the_coordinator_stops_answering(person: Watched, running: Running) -> None:
    """The page says that it is out of date; a session that is gone is said too, and nothing typed is lost."""
    page, rig = person.page, running.rig
    person.expected.append(EXPECTED_ERROR)
    job_id = running.do(rig.submit("bob", talkative(1)))
    field = page.locator(f"#reason-{job_id}")
    expect(field).to_be_visible()
    field.fill("half a thought")
    running.do(rig.stop("alice"))
    expect(page.get_by_role("alert")).to_contain_text("No connection to the coordinator")
    running.do(rig.start("alice"))
    expect(page.get_by_role("alert")).to_contain_text("Your session has ended")
    expect(field).to_have_value("half a thought")


def test_refusals_are_pages_for_people(person: Watched, running: Running) -> None:
    page, rig = person.page, running.rig
    person.expected.append(EXPECTED_ERROR)
    job_id = running.do(rig.submit("bob", talkative(1)))
    running.do(asked(running, job_id))
    page.goto(running.url("alice", f"/jobs/{job_id}"))
    page.locator("#judge input[name=digest]").evaluate("e => e.value = 'f'.repeat(64)")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="Conflict")).to_be_visible()
    assert "alice" not in running.do(rig.job("alice", job_id))["approvals"]
    page.go_back()
    page.locator("#judge input[name=csrf]").evaluate("e => e.value = 'x'")
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("heading", name="Forbidden")).to_be_visible()
    assert page.evaluate(ACCESSIBLE) == []
    for path in ("/nothing", "/jobs/20261124-none-aaaaaa", "/jobs/No", "/?page=0", "/?phase=odd"):
        page.goto(running.url("alice", path))
        assert page.evaluate("document.querySelectorAll('h1').length") == 1, path
        expect(page.get_by_role("link", name="Back to the overview")).to_be_visible()


def test_filters_and_pages(person: Watched, running: Running) -> None:
    page, rig = person.page, running.rig
    for _ in range(27):
        running.do(rig.submit("alice"))
    one = running.do(rig.submit("bob"))
    page.goto(running.url("alice"))
    expect(page.locator("#jobs-title ~ .card tbody tr")).to_have_count(25)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("#jobs-title ~ .card tbody tr")).to_have_count(3)
    page.get_by_role("combobox", name="Initiator").select_option("bob")
    page.wait_for_timeout(2500)  # an update does not undo the choice
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#jobs-title ~ .card tbody tr")).to_have_count(1)
    expect(page.locator(f"#row-{one}")).to_be_visible()
    page.get_by_role("combobox", name="Phase").select_option("diverged")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No job fits.")).to_be_visible()


def test_without_javascript(browser, running: Running) -> None:  # type: ignore[no-untyped-def]
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(running.url("alice"))
    page.get_by_label("Operator's token").fill(OPERATOR_TOKEN)
    page.get_by_role("button", name="Sign in").click()
    assert page.locator("noscript meta[http-equiv=refresh]").count() == 1
    job_id = running.do(running.rig.submit("bob", talkative(1)))
    running.do(asked(running, job_id))
    page.goto(running.url("alice", f"/jobs/{job_id}"))
    page.get_by_role("button", name="Approve").click()
    assert running.do(running.rig.end(job_id)) == "succeeded"
    context.close()
