// One row a layer: a bar to drag or to move with the arrow keys, and a number to type.
// data: {rows: [{layer, percent, says, refused}], only: number | null}
// The trigger `edited` carries {layer: percent} for all layers once a change is finished.
const QUIET = 350 // ms without a further key before a change counts as finished

export default function ({ data, parentElement, setTriggerValue }) {
  const box = parentElement.querySelector(".rows")
  const known = [...box.children].map((row) => row.dataset.layer)
  const asked = data.rows.map((row) => row.layer)
  if (String(known) !== String(asked)) {
    box.replaceChildren(...data.rows.map((row) => makeRow(row.layer)))
  }
  box.finish = () => {
    clearTimeout(box.timer)
    box.timer = null
    const pairs = [...box.children].map((row) => [row.dataset.layer, row.percent])
    setTriggerValue("edited", Object.fromEntries(pairs))
  }
  const longest = Math.max(...asked.map((layer) => layer.replace(/[.]weight$/, "").length))
  box.style.setProperty("--names", `${Math.min(22, longest + 2)}ch`)
  box.only = data.only
  data.rows.forEach((row, i) => fill(box.children[i], row))
}

function makeRow(layer) {
  const row = document.createElement("div")
  row.className = "row"
  row.dataset.layer = layer
  const short = layer.replace(/[.]weight$/, "")
  row.append(make("div", "name"), make("div", "track"), make("input", "typed"), make("div", "says"))
  const [name, track, typed] = row.children
  name.textContent = short
  name.title = layer
  track.append(make("div", "bar"), make("div", "grip"))
  for (const [key, value] of Object.entries({ role: "slider", "aria-valuemin": 0, "aria-valuemax": 100 })) {
    track.setAttribute(key, value)
  }
  track.setAttribute("aria-label", `Sparsity of ${short} (%)`)
  Object.assign(typed, { type: "number", min: 0, max: 100, step: "any" })
  typed.setAttribute("aria-label", `Sparsity of ${short}, typed (%)`)

  const follow = (event) => {
    const at = track.getBoundingClientRect()
    move(row, Math.round((100 * (event.clientX - at.left)) / at.width))
  }
  track.onpointerdown = (event) => {
    if (row.refused || event.button) return
    track.setPointerCapture(event.pointerId)
    row.dragged = row.percent
    follow(event)
  }
  track.onpointermove = (event) => row.dragged != null && follow(event)
  track.onpointerup = track.onpointercancel = () => {
    if (row.dragged == null) return
    const moved = row.dragged !== row.percent
    row.dragged = null
    if (moved) row.parentElement.finish()
  }
  track.onkeydown = (event) => {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }
    const ends = { Home: 0, End: 100 }
    if (row.refused || !(event.key in steps || event.key in ends)) return
    event.preventDefault()
    const only = row.parentElement.only
    const next = ends[event.key] ?? row.percent + (only == null ? steps[event.key] : Math.sign(steps[event.key]) * 100)
    if (!move(row, next)) return
    clearTimeout(row.parentElement.timer)
    row.parentElement.timer = setTimeout(row.parentElement.finish, QUIET)
  }
  typed.onchange = () => {
    const given = typed.valueAsNumber
    if (Number.isNaN(given) || !move(row, given)) show(row)
    else row.parentElement.finish()
  }
  return row
}

function fill(row, { percent, says, refused }) {
  const [, track, typed, note] = row.children
  row.refused = refused
  row.classList.toggle("refused", refused)
  track.tabIndex = refused ? -1 : 0
  track.setAttribute("aria-disabled", refused)
  typed.disabled = refused
  note.textContent = says
  // What the hand holds now is newer than what the server answers.
  if (row.dragged != null || row.parentElement.timer) return
  row.percent = percent
  show(row)
}

// The nearest percentage that the layer can have; true when it is another one.
function move(row, percent) {
  const { only } = row.parentElement
  let next = Math.min(100, Math.max(0, percent))
  if (only != null) next = next < only / 2 ? 0 : only
  const changed = next !== row.percent
  row.percent = next
  show(row)
  return changed
}

function show(row) {
  const [, track, typed] = row.children
  const shown = +row.percent.toFixed(2)
  track.children[0].style.width = track.children[1].style.left = `${row.percent}%`
  track.setAttribute("aria-valuenow", shown)
  typed.value = shown
}

function make(tag, className) {
  const element = document.createElement(tag)
  element.className = className
  return element
}
