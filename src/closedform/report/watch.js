// The slider of a rule at work: one row a tensor, one bar a term.
(() => {
  const box = document.currentScript.parentElement;
  const data = JSON.parse(box.querySelector("[type='application/json']").textContent);
  const slider = box.querySelector("input"), out = box.querySelector("output"), body = box.querySelector("tbody");

  function cell(row, tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    row.append(made);
    return made;
  }

  function share(row, value) {
    const made = cell(row, "td", ""), bar = document.createElement("span");
    bar.className = value < 0 ? "bar against" : "bar";
    bar.style.width = `${5 * Math.min(Math.abs(value || 0), 1.5)}em`;
    made.append(bar, value === null ? "still" : `${(100 * value).toFixed(1)} %`);
  }

  function draw() {
    const k = Number(slider.value), told = `step ${data.steps[k]}, loss ${data.loss[k]}`;
    out.textContent = told;
    slider.setAttribute("aria-valuetext", told);
    body.replaceChildren();
    data.layers.forEach((name, layer) => {
      const row = document.createElement("tr");
      body.append(row);
      cell(row, "th", name).scope = "row";
      cell(row, "td", data.ratio[k][layer]).className = "number";
      data.shares[k][layer].forEach((value) => share(row, value));
    });
  }

  slider.addEventListener("input", draw);
  box.hidden = false;
  draw();
})();
