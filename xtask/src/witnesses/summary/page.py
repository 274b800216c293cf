"""Reads a summary page as a browser does, and prints what it says as one line of JSON.

The parser is strict: the first error in the page ends it (https://html.spec.whatwg.org/#parsing).
"""

import json
import sys

import html5lib

page = open(sys.argv[1], encoding="utf-8").read()
root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)


def text(element):
    return " ".join("".join(element.itertext()).split())


def attributes(element):
    return {str(name): value for name, value in element.attrib.items()}


problems = []
elements = [element for element in root.iter() if isinstance(element.tag, str)]
ids = [element.attrib["id"] for element in elements if "id" in element.attrib]
for element in elements:
    name = element.tag.rsplit("}", 1)[-1]
    if name in ("script", "link", "iframe", "object", "embed", "img", "base", "form"):
        problems.append(f"has an element {name}")
    for attribute, value in attributes(element).items():
        if attribute.lower().startswith("on") or attribute in ("src", "srcset", "action", "data"):
            problems.append(f"has an attribute {attribute}")
        if attribute == "href" and value.removeprefix("#") not in ids:
            problems.append(f"leads to {value}")
        if attribute == "aria-labelledby" and not set(value.split()) <= set(ids):
            problems.append(f"is labelled by {value}, which is not there")
if len(ids) != len(set(ids)):
    problems.append("has an id twice")
style = "".join(text(element) for element in elements if element.tag == "style")
for word in ("url(", "@import", "expression("):
    if word in style:
        problems.append(f"has a style sheet with {word}")
if "prefers-color-scheme: dark" not in style or "@media print" not in style:
    problems.append("has no colours for the dark or for paper")

facts = {}
for list_ in root.iter("dl"):
    terms = list(list_)
    facts.update({text(term): text(what) for term, what in zip(terms[::2], terms[1::2])})
frames = []
for item in next(root.iter("ol")):
    parts = {attributes(part).get("class", ""): text(part) for part in item}
    frames.append([parts.get("address mono", ""), parts.get("function mono", "")])
modules = []
for list_ in root.iter("ul"):
    if attributes(list_).get("class") == "chips":
        modules = [text(item).split(" ")[0] for item in list_]
svg = [element for element in elements if element.tag.rsplit("}", 1)[-1] == "svg"]
marked = [text(element) for element in root.iter("mark")]
print(json.dumps({
    "title": text(next(root.iter("h1"))),
    "facts": facts,
    "frames": frames,
    "modules": modules,
    "maps": len(svg),
    "marked": marked,
    "problems": problems,
}))
