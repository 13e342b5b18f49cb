/** How this very binary is started again. Owns the difference between packed and not, and between a container and the
 * node. */
import { isSea } from 'node:sea'
import type { Program } from '../cli/agent-process.ts'
import { placeProgram } from '../host/program-copy.ts'

export function ownProgram (): Program {
  return isSea()
    ? { file: process.execPath, args: [] }
    : { file: process.execPath, args: ['--no-warnings', process.argv[1] ?? ''] }
}

/** For sessions of an agent in a container. Sources that run unpacked are expected under the same path on the node. */
export async function programOnNode (stateDir: string): Promise<Program> {
  return isSea() ? { file: await placeProgram(process.execPath, `${stateDir}/bin`), args: [] } : ownProgram()
}
