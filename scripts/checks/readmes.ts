/**
 * Each source folder explains itself on one page: what it owns, what it does not know, what was decided.
 * Owns the shape of those pages. Does not know whether they are true.
 */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { projectRoot, sourceFiles } from './sources.ts'

const linesMax = 40
const sections = ['Owns', 'Does not know', 'Decisions']

/** Folders of tests mirror the sources and need no page of their own. */
const isExplained = (folder: string): boolean =>
  !/^test(\/unit|\/semantics|\/model|\/faults|\/fuzz|\/fixtures)?(\/|$)/.test(folder) ||
  folder.startsWith('test/peers') || folder.startsWith('test/performance')

export function folderComplaints (folder: string, text: string | undefined): string[] {
  if (text === undefined) return [`${folder}/README.md is missing`]
  const lines = text.trimEnd().split('\n')
  const missing = sections.filter((section) => !text.includes(section)).map((section) =>
    `${folder}/README.md has no word about “${section}”`
  )
  return lines.length <= linesMax
    ? missing
    : [...missing, `${folder}/README.md has ${lines.length} lines, at most ${linesMax}`]
}

if (import.meta.main) {
  const folders = [...new Set(sourceFiles().map((file) => path.posix.dirname(file)))].filter((folder) =>
    folder !== 'agent' && isExplained(folder)
  )
  const complaints = folders.flatMap((folder) => {
    const page = path.join(projectRoot, folder, 'README.md')
    return folderComplaints(folder, existsSync(page) ? readFileSync(page, 'utf8') : undefined)
  })
  for (const complaint of complaints) console.error(complaint)
  console.log(`readmes: ${folders.length} folders, ${complaints.length} complaints`)
  process.exitCode = complaints.length === 0 ? 0 : 1
}
