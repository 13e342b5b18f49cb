/**
 * The project's own source files, as paths relative to its root with forward slashes.
 * Owns the list of top folders. Does not know what a check wants from a file.
 */
import { globSync } from 'node:fs'
import path from 'node:path'

export const projectRoot = path.resolve(import.meta.dirname, '../..')
export const sourceFolders = ['agent', 'flex', 'proto', 'scripts', 'test'] as const

/** Every TypeScript file; what a test or a build brings from elsewhere is not ours. */
export function sourceFiles (): string[] {
  return globSync(sourceFolders.map((folder) => `${folder}/**/*.ts`), {
    cwd: projectRoot, exclude: ['**/node_modules/**']
  }).sort()
}
