/** How this very binary is started again. Owns the difference between packed and not. */
import { isSea } from 'node:sea'
import type { Program } from '../cli/agent-process.ts'

export function ownProgram (): Program {
  return isSea() ? { file: process.execPath, args: [] } : { file: process.execPath, args: ['--no-warnings', process.argv[1] ?? ''] }
}
