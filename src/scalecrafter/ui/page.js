() => {
  // The viewer: zooming about a point, dragging, and the two pictures in one place.  Events are caught on the document,
  // since Gradio puts the viewer's HTML in anew for each picture.  (Gradio calls a script that begins as a function.)
  const [SMALLEST, LARGEST] = [0.02, 8];
  const parts = (inside) => {
    const viewer = inside.closest(".sc-viewer");
    const pane = viewer && viewer.querySelector(".sc-window");
    return pane && { viewer, pane, image: pane.querySelector("img") };
  };
  const natural = (image) => Number(image.getAttribute("width"));
  const scaleOf = (image) => image.getBoundingClientRect().width / natural(image);
  const fitting = ({ pane, image }) =>
    Math.min(pane.clientWidth / natural(image), pane.clientHeight / Number(image.getAttribute("height")));

  const zoom = (found, wanted, x, y) => {
    const { viewer, pane, image } = found;
    const scale = Math.min(Math.max(wanted, Math.min(SMALLEST, fitting(found))), LARGEST);
    const box = pane.getBoundingClientRect();
    const [px, py] = [x ?? box.left + box.width / 2, y ?? box.top + box.height / 2];
    const before = image.getBoundingClientRect();
    const [u, v] = [(px - before.left) / before.width, (py - before.top) / before.height];
    image.style.width = `${natural(image) * scale}px`;
    image.classList.toggle("sc-pixels", scale >= 2);
    const after = image.getBoundingClientRect();
    pane.scrollLeft += after.left + u * after.width - px;
    pane.scrollTop += after.top + v * after.height - py;
    viewer.querySelector(".sc-scale").textContent = `${Math.round(scale * 100)} %`;
  };
  const swap = ({ viewer, image }, button) => {
    const shown = image.getAttribute("src");
    image.setAttribute("src", image.dataset.other);
    image.dataset.other = shown;
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  };
  const act = (found, what, button) => {
    const scale = scaleOf(found.image);
    if (what === "fit") zoom(found, fitting(found));
    if (what === "one") zoom(found, 1);
    if (what === "in") zoom(found, scale * 1.5);
    if (what === "out") zoom(found, scale / 1.5);
    if (what === "swap") swap(found, button);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom]");
    if (button) act(parts(button), button.dataset.zoom, button);
  });
  document.addEventListener("keydown", (event) => {
    const keys = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "one" };
    if (event.target.classList?.contains("sc-window") && keys[event.key] && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      act(parts(event.target), keys[event.key]);
    }
  });
  document.addEventListener("wheel", (event) => {
    const pane = event.target.closest?.(".sc-window");
    if (!pane || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const found = parts(pane);
    zoom(found, scaleOf(found.image) * Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
  }, { passive: false });
  document.addEventListener("dblclick", (event) => {
    const pane = event.target.closest?.(".sc-window");
    if (!pane) return;
    const found = parts(pane);
    const fit = fitting(found);
    zoom(found, scaleOf(found.image) > fit * 1.05 ? fit : 1, event.clientX, event.clientY);
  });
  document.addEventListener("pointerdown", (event) => {
    const pane = event.target.closest?.(".sc-window");
    if (!pane || event.pointerType !== "mouse" || event.button !== 0) return;
    const move = (moved) => pane.scrollBy(-moved.movementX, -moved.movementY);
    const end = () => document.removeEventListener("pointermove", move);
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", end, { once: true });
  });
  const fitNewOnes = () =>
    document.querySelectorAll(".sc-window img:not([style])").forEach((image) => act(parts(image), "fit"));
  new MutationObserver(fitNewOnes).observe(document.body, { childList: true, subtree: true });
  fitNewOnes();
}
