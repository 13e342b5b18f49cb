/**
 * All of the product's JavaScript in one CommonJS file.
 *
 * Owns the bundler's options. A dynamic import stays lazy: its modules lie in the file and run only when a role asks
 * for them, so a Flex `init` runs a few kilobytes of it. Does not know how the file becomes a program.
 */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { build, type Metafile } from 'esbuild'
import { licencesOf } from './licences.ts'

export interface BundleOptions {
  readonly root: string
  /** Entry module relative to the root. */
  readonly entry: string
  readonly output: string
  /** Where the licences of the bundled packages are written. */
  readonly licences?: string
}

/** Writes the bundle; the answer tells what went into it. */
export async function bundle ({ root, entry, output, licences }: BundleOptions): Promise<Metafile> {
  const { metafile } = await build({
    stdin: {
      contents: `import './scripts/pack/packed-environment.ts'\nimport './${entry}'\n`, resolveDir: root,
      sourcefile: 'packed-entry.ts', loader: 'ts'
    },
    absWorkingDir: root,
    outfile: output,
    bundle: true,
    platform: 'node',
    target: 'node24',
    // A single executable's main script is CommonJS: it has no import() of its own and no import.meta.
    format: 'cjs',
    supported: { 'dynamic-import': false },
    define: {
      'import.meta.url': '"file:///snapshot/volbridge.js"', 'import.meta.dirname': '"/snapshot"',
      'import.meta.main': 'true'
    },
    // Names stay readable in stack traces; whitespace does not matter to anybody.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    charset: 'ascii',
    metafile: true,
    logLevel: 'warning'
  })
  if (licences !== undefined) {
    writeFileSync(licences, licencesOf(path.join(root, 'node_modules'), Object.keys(metafile.inputs)))
  }
  return metafile
}
