// A small picture drawn by hand: <div data-digit-pad data-size="8" data-highest="16"> holding a canvas, an input
// [data-digit-values] that gets the numbers as JSON (row by row), optional picks <button data-digit="[0, 5, …]"> and
// a [data-digit-clear] button. Pointer: draw. Keyboard: arrows move, Space draws, Delete clears.
export function startDigitPad(root) {
  const size = Number(root.dataset.size) || 8, highest = Number(root.dataset.highest) || 16;
  const canvas = root.querySelector("canvas"), field = root.querySelector("[data-digit-values]");
  const context = canvas.getContext("2d");
  const scale = 40;
  let values = new Array(size * size).fill(0), cursor = null, last = null;
  canvas.width = canvas.height = size * scale;

  function draw() {
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = getComputedStyle(canvas).color;
    values.forEach((value, index) => {
      context.globalAlpha = value / highest;
      context.fillRect((index % size) * scale, Math.floor(index / size) * scale, scale, scale);
    });
    context.globalAlpha = 1;
    if (cursor !== null && document.activeElement === canvas) {
      context.strokeStyle = context.fillStyle;
      context.lineWidth = 3;
      context.strokeRect((cursor % size) * scale + 2, Math.floor(cursor / size) * scale + 2, scale - 4, scale - 4);
    }
  }

  function changed(picked) {
    field.value = JSON.stringify(values);
    for (const pick of root.querySelectorAll("[data-digit]")) pick.setAttribute("aria-pressed", String(pick === picked));
    draw();
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  // A pen about one and a half cells wide with soft edges, as the training images have after being scaled down.
  function dab(x, y) {
    for (let row = 0; row < size; row += 1) {
      for (let column = 0; column < size; column += 1) {
        const distance = Math.hypot(column + 0.5 - x, row + 0.5 - y);
        const ink = Math.round(Math.max(0, Math.min(1, 1.25 - distance)) * highest);
        const index = row * size + column;
        if (ink > values[index]) values[index] = ink;
      }
    }
  }

  function where(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * size, ((event.clientY - box.top) / box.height) * size];
  }

  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    last = where(event);
    dab(...last);
    changed();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const [x, y] = where(event), [fromX, fromY] = last;
    const steps = Math.max(1, Math.ceil(Math.hypot(x - fromX, y - fromY) * 4));
    for (let step = 1; step <= steps; step += 1) dab(fromX + ((x - fromX) * step) / steps, fromY + ((y - fromY) * step) / steps);
    last = [x, y];
    changed();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -size, ArrowDown: size }[event.key];
    if (move) {
      cursor = ((cursor ?? 0) + move + size * size) % (size * size);
    } else if (event.key === " ") {
      cursor ??= 0;
      values[cursor] = values[cursor] ? 0 : highest;
      changed();
    } else if (event.key === "Delete") {
      values.fill(0);
      changed();
    } else return;
    event.preventDefault();
    draw();
  });
  canvas.addEventListener("blur", draw);
  canvas.addEventListener("focus", draw);
  root.addEventListener("click", (event) => {
    const pick = event.target.closest("[data-digit]");
    if (pick) { values = JSON.parse(pick.dataset.digit); changed(pick); }
    if (event.target.closest("[data-digit-clear]")) { values.fill(0); changed(); }
  });
  document.addEventListener("windlass:theme", draw);
  if (field.value) values = JSON.parse(field.value);
  field.value = JSON.stringify(values);
  draw();
}
