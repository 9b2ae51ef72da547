"use strict";
// Asks for the page's main part every two seconds and changes only what differs: what a person has typed, opened,
// scrolled or focused stays as it is.
const EVERY_MS = 2000;
const main = document.querySelector("main[data-live]");
const lost = document.getElementById("lost");

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function attributes(old, fresh) {
  const typed = old.nodeName === "INPUT" && old.type !== "hidden";
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of [...fresh.attributes]) {
    if (name === "open" || (typed && name === "value")) continue;
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
}

function update(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  attributes(old, fresh);
  const follows = old.hasAttribute("data-follow") && old.scrollTop + old.clientHeight >= old.scrollHeight - 4;
  const wanted = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  for (const child of [...old.children]) {
    if (child.id && !wanted.has(child.id) && !child.hasAttribute("data-keep")) child.remove();
  }
  const known = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    while (at && at.id && at.hasAttribute("data-keep") && !wanted.has(at.id)) at = at.nextSibling;
    const match = child.id ? known.get(child.id) : at && !at.id && same(at, child) ? at : null;
    if (match && match !== at) old.insertBefore(match, at);
    if (!match) {
      old.insertBefore(child, at);
      continue;
    }
    const next = match === at ? at.nextSibling : at;
    if (same(match, child)) update(match, child);
    else match.replaceWith(child);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    if (!(at.id && at.hasAttribute("data-keep"))) at.remove();
    at = next;
  }
  if (follows) old.scrollTop = old.scrollHeight;
}

function trouble(text) {
  if (lost.textContent !== text) lost.textContent = text;
  lost.hidden = !text;
}

async function look() {
  if (document.hidden) return;
  const wants = document.querySelector("[data-missing]") ? "all" : "live";
  try {
    const options = { headers: { "x-fragment": wants }, cache: "no-store", signal: AbortSignal.timeout(10000) };
    const answer = await fetch(location.pathname + location.search, options);
    if (answer.status === 401) return trouble("Your session has ended: reload this page to sign in again.");
    if (!answer.ok) return trouble(`The coordinator answers with an error (HTTP ${answer.status}). What you see may be out of date.`);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    trouble("");
    document.title = fresh.title;
    update(main, fresh.querySelector("main"));
  } catch {
    trouble("No connection to the coordinator. What you see may be out of date; it is tried again every two seconds.");
  }
}

async function always() {
  for (;;) {
    await new Promise((resume) => setTimeout(resume, EVERY_MS));
    await look();
  }
}

for (const log of document.querySelectorAll("[data-follow]")) log.scrollTop = log.scrollHeight;
if (main) {
  document.addEventListener("visibilitychange", look);
  always();
}
