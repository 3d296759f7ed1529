// What the theme lacks: names of columns for tables on phones, and areas that scroll by keyboard.
const WIDE = 3; // columns

function nameColumns() {
  for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
    const titles = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    if (titles.length < WIDE) continue;
    table.dataset.wide = "";
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, column) => { cell.dataset.column = titles[column]; });
    }
  }
}

// of a session, the button copies what is typed: neither the prompts nor the output
function copyCommands() {
  for (const button of document.querySelectorAll(".language-console button[data-clipboard-target]")) {
    const lines = document.querySelector(button.dataset.clipboardTarget).textContent.split("\n");
    button.dataset.clipboardText = lines.filter((line) => /^[$#] /.test(line)).map((line) => line.slice(2)).join("\n");
    button.removeAttribute("data-clipboard-target");
  }
}

function makeReachable() {
  for (const area of document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap, .md-typeset__table")) {
    if (area.scrollWidth > area.clientWidth) area.tabIndex = 0;
    else area.removeAttribute("tabindex");
  }
  for (const nav of document.querySelectorAll("nav.md-code__nav")) nav.setAttribute("role", "none");
  document.querySelector("nav.md-nav--primary")?.setAttribute("aria-label", "All pages");
}

function improve() {
  nameColumns();
  const adapt = () => { copyCommands(); makeReachable(); };
  adapt();
  // the theme adds buttons and frames later
  new MutationObserver(adapt).observe(document.body, { childList: true, subtree: true });
  addEventListener("resize", makeReachable);
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", improve);
else improve();
