/**
 * What the page does by itself in a browser that runs scripts: it fetches itself again and exchanges what has changed.
 *
 * Owns the text of that script. It is plain JavaScript, without a build, and all that the page needs to be read is
 * there without it:
 * then the browser loads the page anew. It uses nothing but its own address.
 */

/** As often as there is something new to see. */
const everyMs = 5000

export const script = `(() => {
'use strict'
const live = document.getElementById('live')
const told = document.getElementById('told')
const announce = document.getElementById('announce')
const button = document.getElementById('pause')
let isPaused = false
let timer
const openIds = () => [...live.querySelectorAll('details[open][id]')].map(({ id }) => id)
const isInUse = () => { const marked = getSelection(); return marked && !marked.isCollapsed && live.contains(marked.anchorNode) }
function exchange (next) {
  const open = openIds()
  const focused = live.contains(document.activeElement) ? document.activeElement.closest('[id]') : null
  live.replaceChildren(...document.importNode(next.getElementById('live'), true).childNodes)
  for (const id of open) { const found = document.getElementById(id); if (found) found.open = true }
  const again = focused && focused !== live && document.getElementById(focused.id)
  if (again) (again.querySelector('summary') || again).focus({ preventScroll: true })
  const icon = next.querySelector('link[rel=icon]')
  if (icon) document.querySelector('link[rel=icon]').href = icon.getAttribute('href')
  told.textContent = next.getElementById('told').textContent
  const summary = next.querySelector('h1').textContent.trim()
  if (announce.dataset.last !== summary) { announce.textContent = announce.dataset.last ? summary : ''; announce.dataset.last = summary }
  document.title = next.title
}
async function refresh () {
  clearTimeout(timer)
  if (!isPaused && !document.hidden && !isInUse()) {
    try {
      const answer = await fetch(location.pathname, { cache: 'no-store', signal: AbortSignal.timeout(8000) })
      if (!answer.ok) throw new Error(answer.statusText)
      const next = new DOMParser().parseFromString(await answer.text(), 'text/html')
      if (!isPaused) exchange(next)
      document.body.classList.remove('lost')
    } catch {
      if (!document.body.classList.contains('lost')) told.textContent = 'The agent does not answer. Last ' + told.textContent
      document.body.classList.add('lost')
    }
  }
  clearTimeout(timer)
  timer = setTimeout(refresh, ${everyMs})
}
announce.dataset.last = document.querySelector('h1').textContent.trim()
button.hidden = false
button.addEventListener('click', () => {
  isPaused = !isPaused
  button.textContent = isPaused ? 'Resume' : 'Pause'
  if (!isPaused) refresh()
})
document.addEventListener('visibilitychange', () => { if (!document.hidden) refresh() })
timer = setTimeout(refresh, ${everyMs})
})()
`
