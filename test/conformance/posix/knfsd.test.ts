/**
 * The same tables on a share of the Linux kernel's own NFS server. It runs in a virtual machine, slowly: a table is a
 * test.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { Knfsd } from '../../peers/vm/knfsd.ts'
import { TestNode } from '../../semantics/endtoend/node.ts'
import { compileCaller, Judge } from './judge.ts'
import { tables } from './tables.ts'

const needs = ['root', 'fuse', 'qemu', 'gcc'] as const
const check = testNeeding(...needs)

let server: Knfsd
let node: TestNode
let judge: Judge

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Knfsd.start()
  node = new TestNode()
  await node.startAgent()
  const point = node.makeFolder('mnt')
  await node.mount(`${server.host}:${server.share}`, point, server.mountOptions)
  const folder = path.join(point, 'mounted')
  mkdirSync(folder)
  chmodSync(folder, 0o755)
  judge = new Judge({ program: await compileCaller(node.folder), folder, judged: 'knfsd' })
})

test.after.always(async () => {
  await judge?.close()
  await node?.close()
  await server?.close()
})

for (const [name, rules] of Object.entries(tables)) {
  check(`on the Linux kernel's NFS server: ${name}`, async (t) => {
    // A hang, not a figure.
    t.timeout(300_000)
    for (const rule of rules) t.deepEqual(await judge.run(rule), [], rule.title)
  })
}
