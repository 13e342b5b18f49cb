/**
 * Programs of this machine put into an image's folder, with the shared libraries they need.
 * Owns that copying. Does not know which programs.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, realpathSync } from 'node:fs'
import path from 'node:path'

/** Absolute paths of what the dynamic linker would load; nothing for a static program, of which ldd says so and
 * fails. */
function librariesOf (program: string): readonly string[] {
  return spawnSync('ldd', [program], { encoding: 'utf8' }).stdout.split('\n')
    .map((line) => /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1]).filter((file) => file !== undefined)
}

export function copyInto (rootfs: string, file: string, as = file): void {
  const target = path.join(rootfs, as)
  mkdirSync(path.dirname(target), { recursive: true })
  copyFileSync(realpathSync(file), target)
}

/** Answers the libraries that went along. */
export function copyProgram (rootfs: string, program: string, as: string): readonly string[] {
  const libraries = librariesOf(program)
  copyInto(rootfs, program, as)
  for (const library of libraries) copyInto(rootfs, library)
  return libraries
}
