"use strict";
(() => {
  const made = document.getElementById("made"), age = document.getElementById("age");
  const days = Math.floor(Date.now() / 864e5) - Math.floor(Date.parse(made.dateTime) / 864e5);
  if (days > 1) {
    age.textContent = `This page is ${days} days old: does doit still run? Check its cron job or timer, then: ./run invoke health`;
    age.hidden = false;
  }
  if (navigator.clipboard) {
    for (const code of document.querySelectorAll(".do code")) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.setAttribute("aria-label", `Copy: ${code.textContent}`);
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      });
      code.after(button);
    }
  }
  for (const find of document.querySelectorAll(".find")) {
    const input = find.querySelector("input"), count = find.querySelector("output"), place = find.parentElement;
    const rows = [...place.querySelectorAll("tbody tr")], groups = [...place.querySelectorAll("details")];
    const open = groups.map((group) => group.open);
    find.hidden = false;
    input.addEventListener("input", () => {
      const words = input.value.trim().toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      groups.forEach((group, number) => {
        const some = group.querySelector("tbody tr:not([hidden])");
        group.hidden = !some;
        group.open = input.value ? Boolean(some) : open[number];
      });
      count.textContent = input.value ? `${shown} of ${rows.length}` : "";
    });
  }
})();
