// The settings: one control for each row of the server's table, with one plain sentence.

const CROPS = [["auto", "when the picture is large"], ["never", "never"], ["1.5", "1.5 × the hole"], ["2", "2 × the hole"],
               ["3", "3 × the hole"], ["5", "5 × the hole"]];

export class Panel {
  constructor(table, first, more) {
    this.table = table;
    this.models = Object.fromEntries(table.models.map((model) => [model.name, model]));
    this.controls = {};
    this.rows = {};
    this.onchange = () => {};
    for (const setting of table.settings) {
      if (setting.group === "hidden") continue;
      const row = this.row(setting);
      (setting.group === "first" ? first : more).append(row);
    }
    this.update();
  }

  row(setting) {
    const row = document.createElement("div"), label = document.createElement("label"), help = document.createElement("p");
    const control = this.control(setting);
    row.className = `row ${setting.kind}`;
    control.id = `set-${setting.name}`;
    control.setAttribute("aria-describedby", `help-${setting.name}`);
    label.htmlFor = control.id;
    label.textContent = setting.label;
    help.id = `help-${setting.name}`;
    help.className = "help";
    help.textContent = setting.help;
    row.append(label, control, help);
    if (setting.name === "seed") {
      const dice = document.createElement("button");
      dice.type = "button";
      dice.className = "quiet dice";
      dice.textContent = "New";
      dice.setAttribute("aria-label", "New seed");
      dice.addEventListener("click", () => {
        control.value = crypto.getRandomValues(new Uint32Array(1))[0] % 1000000;
        this.changed();
      });
      const pair = document.createElement("div");
      pair.className = "pair";
      control.replaceWith(pair);
      pair.append(control, dice);
    }
    control.addEventListener("change", () => this.changed());
    control.addEventListener("input", () => this.onchange());
    this.controls[setting.name] = control;
    this.rows[setting.name] = row;
    return row;
  }

  control(setting) {
    if (setting.name === "crop") return select(CROPS, "auto");
    if (setting.choices.length || setting.kind === "boolean") {
      const words = setting.kind === "boolean" ? [["true", "yes"], ["false", "no"]] : setting.choices.map((c) => [c, c]);
      const own = setting.default === null ? [["", "default"]] : [];
      return select([...own, ...words], setting.default === null ? "" : String(setting.default));
    }
    if (setting.kind === "string") {
      const text = document.createElement("textarea");
      text.rows = 2;
      text.maxLength = this.table.limits.text;
      return text;
    }
    const number = document.createElement("input");
    number.type = "number";
    number.inputMode = setting.kind === "integer" ? "numeric" : "decimal";
    number.step = setting.kind === "integer" ? 1 : "any";
    number.min = setting.low;
    number.max = setting.high;
    if (setting.default === null) number.placeholder = "default";
    else number.value = setting.default;
    return number;
  }

  get model() {
    return this.models[this.controls.model.value];
  }

  changed() {
    this.update();
    this.onchange();
  }

  // Shows what the model and the method have.
  update() {
    const kind = this.model.kind, method = this.controls.method.value || this.model.method;
    for (const setting of this.table.settings) {
      const row = this.rows[setting.name];
      if (!row) continue;
      row.hidden = (setting.of !== "any" && setting.of !== kind) || (setting.methods.length && !setting.methods.includes(method));
    }
    document.getElementById("help-model").textContent = this.model.sentence;
  }

  // The settings that were given, as the server takes them. Throws an Error with one line where a number is wrong.
  values() {
    const made = {};
    for (const setting of this.table.settings) {
      const control = this.controls[setting.name];
      if (!control || this.rows[setting.name].hidden) continue;
      if (control.validity && !control.validity.valid) {
        control.closest("details")?.setAttribute("open", "");
        control.focus();
        throw new Error(`${setting.label}: give a ${setting.kind} from ${setting.low} to ${setting.high}`);
      }
      const text = control.value;
      if (setting.name === "crop") made.crop = Number(text) || text;
      else if (text === "") continue;
      else if (setting.kind === "boolean") made[setting.name] = text === "true";
      else made[setting.name] = setting.kind === "integer" || setting.kind === "number" ? Number(text) : text;
    }
    return made;
  }

  texts() {
    return Object.fromEntries(Object.entries(this.controls).map(([name, control]) => [name, control.value]));
  }

  restore(texts) {
    for (const [name, text] of Object.entries(texts ?? {})) {
      const control = this.controls[name];
      if (!control) continue;
      const had = control.value;
      control.value = text;
      if (control.tagName === "SELECT" && control.selectedIndex < 0) control.value = had; // another server's model
    }
    this.update();
  }
}

function select(words, chosen) {
  const made = document.createElement("select");
  for (const [value, text] of words) made.append(new Option(text, value, value === chosen, value === chosen));
  return made;
}
