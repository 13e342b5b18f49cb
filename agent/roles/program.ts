/** How this very binary is started again. Owns the difference between packed and not, and between a container and the
 * node. */
import { isSea } from 'node:sea'
import path from 'node:path'
import type { Program } from '../cli/agent-process.ts'
import { injectedSource, temporaryFolders } from '../host/addon-location.ts'
import { placeProgram } from '../host/program-copy.ts'
import type { ViewRule } from '../host/view.ts'

export function ownProgram (): Program {
  return isSea()
    ? { file: process.execPath, args: [] }
    : { file: process.execPath, args: ['--no-warnings', process.argv[1] ?? ''] }
}

/** For sessions of an agent in a container. Sources that run unpacked are expected under the same path on the node. */
export async function programOnNode (stateDir: string): Promise<Program> {
  return isSea() ? { file: await placeProgram(process.execPath, `${stateDir}/bin`), args: [] } : ownProgram()
}

/**
 * What a session of `program` reads, and where it puts its addon if that is not there: an agent of another version may
 * have removed it. Once it serves, folders of root's are closed to its user.
 */
export function filesOf (program: Program): readonly ViewRule[] {
  const packed = injectedSource()
  return [
    { kind: 'run', what: program.file },
    ...packed === undefined
      ? [{ kind: 'run', what: path.resolve(import.meta.dirname, '../..') } as const]
      : [...packed.folders, ...packed.isTemporary === true ? temporaryFolders : []].map((what) =>
        ({ kind: 'unpack', what }) as const
      )
  ]
}
