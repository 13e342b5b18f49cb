/**
 * A memory cgroup of a test, v1 or v2: a limit, who is in it, and what it was charged.
 * Owns the folder. Does not know what runs inside.
 */
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const v1 = '/sys/fs/cgroup/memory'
const v2 = '/sys/fs/cgroup'

export class MemoryGroup {
  readonly folder: string
  readonly #version: 'v1' | 'v2'

  private constructor (folder: string, version: 'v1' | 'v2') {
    this.folder = folder
    this.#version = version
  }

  /** A sentence when there can be none on this machine. */
  static make (limitBytes: number): MemoryGroup | string {
    try {
      const group = MemoryGroup.#open()
      if (typeof group !== 'string') group.#write({ v1: 'memory.limit_in_bytes', v2: 'memory.max' }, `${limitBytes}`)
      return group
    } catch (error) {
      return `no memory cgroup can be made: ${String(error)}`
    }
  }

  static #open (): MemoryGroup | string {
    if (existsSync(`${v1}/memory.limit_in_bytes`)) return new MemoryGroup(mkdtempSync(`${v1}/volbridge-test-`), 'v1')
    if (!existsSync(`${v2}/cgroup.controllers`)) return 'this machine has no memory cgroups'
    writeFileSync(`${v2}/cgroup.subtree_control`, '+memory')
    return new MemoryGroup(mkdtempSync(`${v2}/volbridge-test-`), 'v2')
  }

  #write (files: { readonly v1: string, readonly v2: string }, text: string): void {
    writeFileSync(path.join(this.folder, files[this.#version]), text)
  }

  #number (file: string, name: string): number {
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(readFileSync(path.join(this.folder, file), 'utf8'))?.[1])
  }

  enter (pid: number): void { this.#write({ v1: 'cgroup.procs', v2: 'cgroup.procs' }, `${pid}`) }

  get kills (): number {
    return this.#number(this.#version === 'v1' ? 'memory.oom_control' : 'memory.events', 'oom_kill')
  }

  /** What cannot be given back by dropping clean pages of files. */
  get heldBytes (): number {
    const total = Number(readFileSync(
      path.join(this.folder, this.#version === 'v1' ? 'memory.usage_in_bytes' : 'memory.current'),
      'utf8'
    ))
    return total - this.#number('memory.stat', 'inactive_file') - this.#number('memory.stat', 'active_file')
  }

  /** The process goes to the group above, where it is still ours; then the folder goes. */
  remove (pid?: number): void {
    if (pid !== undefined) writeFileSync(path.join(path.dirname(this.folder), 'cgroup.procs'), `${pid}`)
    rmdirSync(this.folder)
  }
}
