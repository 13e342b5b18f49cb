/**
 * One server, one node with its agent, one mount: for all tests of a file.
 * Owns their start before the first test and their end after the last, also of a half-made one. Does not know what is
 * tested.
 */
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing, type Need } from '../../peers/needs.ts'
import { TestNode } from './node.ts'

export interface Standing {
  readonly server: Ganesha
  readonly node: TestNode
  /** Where the server's folder is mounted. */
  readonly mounted: string
}

/** What it answers is there from the first test on. `prepare` runs before the mount, `after` when everything stands. */
export function standing (needs: readonly Need[], { prepare, after }: {
  readonly prepare?: (server: Ganesha) => void
  readonly after?: (standing: Standing) => Promise<void>
} = {}): Standing {
  let server: Ganesha | undefined
  let node: TestNode | undefined
  let mounted = ''
  const there = <T>(part: T | undefined): T => {
    if (part === undefined) throw new Error('this is there from the first test on')
    return part
  }
  const all: Standing = {
    get server () { return there(server) },
    get node () { return there(node) },
    get mounted () { return mounted }
  }
  test.before(async () => {
    if (missing(...needs) !== undefined) return
    node = new TestNode()
    server = await Ganesha.start({ folder: node.makeFolder('export') })
    await node.startAgent()
    mounted = node.makeFolder('mnt')
    prepare?.(server)
    await node.mount(`${server.host}:${server.folder}`, mounted, server.mountOptions)
    await after?.(all)
  })
  test.after.always(async () => {
    server?.resume()
    await node?.close()
    await server?.close()
  })
  return all
}
