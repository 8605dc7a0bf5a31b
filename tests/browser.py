"""Snakemake's report as a reader meets it: opened in headless Chromium, every entry clicked on."""

import html
import json
import re
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((name for name in NAMES if shutil.which(name)), None)

# Goes through the report's own buttons. What an entry shows is either a picture, a page in a frame,
# or a file to save; the text of a frame is not open to scripts, so its source is taken apart.
WALK = """
const pause = () => new Promise(done => setTimeout(done, 30));
async function look(src) {
  const picture = new Image();
  picture.src = src;
  try { await picture.decode(); } catch (error) { return 0; }
  return picture.naturalWidth;
}
async function walk() {
  const seen = [];
  for (const category of Object.keys(categories))
    for (const subcategory of Object.keys(categories[category])) {
      app.setView({navbarMode: "subcategory", category, subcategory});
      await pause();
      const count = document.querySelectorAll("#app tbody tr").length;
      for (let k = 0; k < count; k++) {
        app.setView({navbarMode: "subcategory", category, subcategory});
        await pause();
        const row = document.querySelectorAll("#app tbody tr")[k];
        const entry = {category, subcategory, label: row.cells[0].innerText, caption: ""};
        const [show, explain] = row.querySelectorAll("a");
        if (show.getAttribute("download")) {
          entry.kind = "file";
          entry.name = show.getAttribute("download");
          entry.width = await look(show.href);
        } else {
          show.click();
          await pause();
          // the menu's logo is a picture too
          const picture = document.querySelector('#app img:not([src*="filename=logo"])');
          const frame = document.querySelector("#app iframe");
          if (picture) {
            entry.kind = "picture";
            entry.width = await look(picture.src);
          } else if (frame) {
            entry.kind = "page";
            const text = await (await fetch(frame.src)).text();
            const page = new DOMParser().parseFromString(text, "text/html");
            entry.rows = page.querySelectorAll("tr").length;
          }
        }
        explain.click();
        await pause();
        entry.caption = document.querySelector("#app .prose-invert")?.innerText ?? "";
        seen.push(entry);
      }
    }
  return seen;
}
const about = document.querySelector("#app .prose")?.innerText ?? "";
walk().catch(error => [{kind: "error", label: String(error)}]).then(entries => {
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = JSON.stringify({about, entries});
  document.documentElement.replaceChildren(found);
});
"""


def chromium(*arguments):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def walk(report, scratch):
    """Open a report and click on everything in it.

    Returns
    -------
    The text it opens with, and a dictionary for each entry: category, subcategory, label, caption,
    ``kind`` (picture, page or file), and the picture's ``width`` or the page's ``rows``.
    """
    start, end = report.read_text(encoding="utf-8").rsplit("</body>", 1)
    page = scratch / "walked.html"
    script = f"<script>setTimeout(async () => {{{WALK}}}, 100)</script>"
    page.write_text(f"{start}{script}</body>{end}", encoding="utf-8")
    # virtual time runs ahead while pictures decode, so the budget is hours; it takes seconds
    done = chromium("--virtual-time-budget=10000000", "--dump-dom", page.as_uri())
    text = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert text, done.stderr[-2000:] + done.stdout[:2000]
    found = json.loads(html.unescape(text[1]))
    return found["about"], found["entries"]
