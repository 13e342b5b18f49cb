/**
 * Every test that SEMANTICS.md, THREATS.md and test/FAULTS.md name exists. Owns what counts as a title in those tables
 * and as one in a test. Does not run tests.
 *
 * A title in a test may have parts that are filled in (`${…}`): any text fits there.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

const documents = ['SEMANTICS.md', 'THREATS.md', 'test/FAULTS.md']

/** Code spans of a table's last column that are sentences: paths, options and names of calls are not. */
function titlesOf (text: string): readonly string[] {
  const cells = text.split('\n').filter((line) => line.startsWith('| ')).map((line) => line.split(' | ').at(-1) ?? '')
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, title = '']) => title)).filter((title) =>
    title.split(' ').length > 3
  )
}

function sources (folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => readFileSync(path.join(entry.parentPath, entry.name), 'utf8'))
}

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

function isIn (title: string, texts: readonly string[], patterns: readonly RegExp[]): boolean {
  // POSIX rules are called by their table's name and their own.
  const names = [title, title.replace(/^[\w-]+: /, '')]
  return names.some((name) => texts.some((text) => text.includes(name))) ||
    patterns.some((pattern) => pattern.test(title))
}

const texts = sources('test')
const patterns = texts.flatMap((text) =>
  [...text.matchAll(/`([^`\n]*\$\{[^`\n]*)`/g)].map(([, template = '']) => template)
)
  .filter((template) => template.replace(/\$\{[^}]*\}/g, '').length > 12)
  .map((template) => new RegExp(`^${template.split(/\$\{[^}]*\}/).map(escaped).join('.+')}$`))
let missing = 0
let seen = 0
for (const document of documents) {
  for (const title of titlesOf(readFileSync(document, 'utf8'))) {
    seen++
    if (isIn(title, texts, patterns)) continue
    missing++
    console.error(`${document}: no test is called "${title}"`)
  }
}
console.log(`titles: ${seen} named, ${missing} missing`)
process.exitCode = missing === 0 && seen > 0 ? 0 : 1
