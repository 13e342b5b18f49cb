/**
 * HTML as text that cannot be broken out of.
 *
 * Owns escaping: a value in a template is text unless it came out of a template. Does not know what is written.
 */

export class Html {
  readonly text: string
  constructor (text: string) { this.text = text }
}

export type Value = string | number | Html | readonly Html[]

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\'': '&#39;'
}

/**
 * For element content and quoted attributes. Control characters and lone surrogates mean nothing in HTML, and those
 * that turn the direction of writing could make a name read as another.
 */
export const escapeHtml = (text: string): string =>
  text.toWellFormed()
    .replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\uFFFD')
    .replaceAll(/[&<>"']/g, (character) => entities[character] ?? '')

function show (value: Value): string {
  if (value instanceof Html) return value.text
  if (typeof value === 'object') return value.map(({ text }) => text).join('')
  return escapeHtml(String(value))
}

export const nothing = new Html('')

export const html = (parts: TemplateStringsArray, ...values: readonly Value[]): Html =>
  new Html(parts.map((part, index) => index < values.length ? part + show(values[index] ?? '') : part).join(''))

const textCharactersMax = 300

/** Text from elsewhere, at a length that a page can bear and in a direction of its own. */
export function foreign (text: string): Html {
  return html`<bdi>${text.length > textCharactersMax ? `${text.slice(0, textCharactersMax)}…` : text}</bdi>`
}
