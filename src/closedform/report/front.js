// The front of equations, live: a dot tells its equation when pointed at, and the command that takes it when chosen.
(() => {
  const box = document.currentScript.parentElement;
  const data = JSON.parse(box.querySelector("[type='application/json']").textContent);
  const said = box.querySelector("output"), equation = box.querySelector(".says"), command = box.querySelector(".takes");
  const dots = data.entries.map((_, k) => document.getElementById(`${data.name}-point-${k}`));
  let chosen = data.chosen;

  function show(k) {
    const entry = data.entries[k];
    said.textContent = `${entry.nodes} nodes, ${entry.buffers} buffers, R² ${entry.r2}${k === chosen ? ", chosen" : ""}`;
    equation.textContent = entry.equation;
    command.textContent = `${data.command} --nodes ${entry.nodes} --buffers ${entry.buffers}`;
  }

  function choose(k) {
    chosen = k;
    dots.forEach((dot, j) => dot.classList.toggle("taken", j === k));
    show(k);
  }

  dots.forEach((dot, k) => {
    const entry = data.entries[k];
    dot.classList.add("dot");
    dot.setAttribute("tabindex", "0");
    dot.setAttribute("role", "button");
    dot.setAttribute("aria-label", `${entry.nodes} nodes, R² ${entry.r2}: ${entry.equation}`);
    dot.addEventListener("mouseenter", () => show(k));
    dot.addEventListener("mouseleave", () => show(chosen));
    dot.addEventListener("focus", () => show(k));
    dot.addEventListener("click", () => choose(k));
    dot.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(k);
      }
    });
  });
  dots[0].closest("svg").setAttribute("role", "group");
  box.hidden = false;
  choose(chosen);
})();
