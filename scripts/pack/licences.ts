/**
 * The licences of what is bundled, as their owners ask: name, version and full text of each package.
 * Owns that text. Does not know the bundler beyond the list of files it took.
 */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'

/** The package folder of a file, `@scope/name` included; nested node_modules count on their own. */
function packageFolderOf (file: string): string | undefined {
  return /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1]
}

export function licencesOf (modules: string, files: readonly string[]): string {
  const root = path.dirname(modules)
  const folders = [...new Set(files.map(packageFolderOf).filter((folder) => folder !== undefined))].sort()
  return folders.map((folder) => {
    const at = path.join(root, folder)
    const facts = JSON.parse(readFileSync(path.join(at, 'package.json'), 'utf8')) as {
      name: string
      version: string
      license?: string
    }
    const texts = readdirSync(at).filter((name) => /^(licen[cs]e|notice|copying)/i.test(name)).map((name) =>
      readFileSync(path.join(at, name), 'utf8').trim()
    )
    return [`${facts.name} ${facts.version} (${facts.license ?? 'see below'})`, ...texts].join('\n\n')
  }).join(`\n\n${'-'.repeat(80)}\n\n`) + '\n'
}
