// The results side by side.

export class Results {
  constructor(list) {
    this.list = list;
    this.items = [];
    this.onshow = () => {};
    this.onagain = () => {};
  }

  clear() {
    for (const item of this.items) URL.revokeObjectURL(item.address);
    this.items = [];
    this.list.replaceChildren();
  }

  async add(blob, seed, name) {
    const address = URL.createObjectURL(blob), picture = await createImageBitmap(blob);
    const item = { blob, seed, address, picture };
    const card = document.createElement("li"), show = document.createElement("button"), image = document.createElement("img");
    const again = document.createElement("button"), save = document.createElement("a"), row = document.createElement("div");
    show.type = again.type = "button";
    show.className = "card";
    show.setAttribute("aria-pressed", "false");
    image.src = address;
    image.alt = `Result with seed ${seed}`;
    image.classList.toggle("small", Math.max(picture.width, picture.height) < 200);
    show.append(image);
    show.addEventListener("click", () => this.select(item));
    again.textContent = "Paint on";
    again.title = "Paint again from this one";
    again.setAttribute("aria-label", `Paint again from the result with seed ${seed}`);
    again.addEventListener("click", () => this.onagain(item));
    save.href = address;
    save.download = `${name}-${seed}.png`;
    save.textContent = "Save";
    save.title = "Download; the settings are in the file";
    save.setAttribute("aria-label", `Download the result with seed ${seed}`);
    row.className = "actions";
    row.append(again, save);
    card.append(show, row);
    item.button = show;
    this.items.push(item);
    this.list.append(card);
    return item;
  }

  select(item) {
    for (const one of this.items) one.button.setAttribute("aria-pressed", String(one === item));
    this.onshow(item);
  }
}
