/**
 * What POSIX and Linux say each system call answers, judged on a real mount: the packed binary on a real server. The same tables run
 * on the exported folder itself, so a rule that is wrong fails there too.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode } from '../../semantics/endtoend/node.ts'
import { compileCaller, Judge } from './judge.ts'
import { tables } from './tables.ts'

const check = testNeeding('root', 'fuse', 'ganesha', 'gcc')

let server: Ganesha
let node: TestNode
let mounted: Judge
let local: Judge

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha', 'gcc') !== undefined) return
  node = new TestNode()
  // A folder that every user reaches: the same rules run in it.
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  const program = await compileCaller(node.folder)
  const point = node.makeFolder('mnt')
  for (const name of ['mounted', 'local']) {
    mkdirSync(path.join(server.folder, name))
    chmodSync(path.join(server.folder, name), 0o755)
  }
  await node.mount(`${server.host}:${server.folder}`, point, server.mountOptions)
  mounted = new Judge({ program, folder: path.join(point, 'mounted'), isNfs: true })
  local = new Judge({ program, folder: path.join(server.folder, 'local'), isNfs: false })
})

test.after.always(async () => {
  await mounted?.close()
  await local?.close()
  await node?.close()
  await server?.close()
})

for (const [name, rules] of Object.entries(tables)) {
  for (const rule of rules) {
    check(`${name}: ${rule.title}`, async (t) => {
      t.deepEqual(await local.run(rule), [], 'on the exported folder itself: the rule is wrong')
      t.deepEqual(await mounted.run(rule), [], 'on the mount')
    })
  }
}
