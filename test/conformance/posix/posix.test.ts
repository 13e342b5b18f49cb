/**
 * What POSIX and Linux say each system call answers, judged on a real mount: the packed binary on a real server. The
 * same tables run on the exported folder itself, so a rule that is wrong fails there too.
 */
import { chmodSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode } from '../../semantics/endtoend/node.ts'
import { CallingUser, compileCaller, Judge } from './judge.ts'
import { tables } from './tables.ts'

const check = testNeeding('root', 'fuse', 'ganesha', 'gcc')

let server: Ganesha
let node: TestNode
let mounted: Judge
let solo: Judge
let idmapped: Judge | undefined
let local: Judge
let program: string
let point: string

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha', 'gcc') !== undefined) return
  node = new TestNode()
  // A folder that every user reaches: the same rules run in it.
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  program = await compileCaller(node.folder)
  point = node.makeFolder('mnt')
  for (const name of ['mounted', 'solo', 'idmapped', 'local']) {
    mkdirSync(path.join(server.folder, name))
    chmodSync(path.join(server.folder, name), 0o755)
  }
  await node.mount(`${server.host}:${server.folder}`, point, server.mountOptions)
  const soloPoint = node.makeFolder('solo')
  await node.mount(`${server.host}:${server.folder}`, soloPoint, `${server.mountOptions},consistency=solowriter`)
  mounted = new Judge({ program, folder: path.join(point, 'mounted'), judged: 'nfs' })
  solo = new Judge({ program, folder: path.join(soloPoint, 'solo'), judged: 'solo' })
  if (missing('idmappedFuse') === undefined) {
    const idmappedPoint = node.makeFolder('idmapped')
    await node.mount(`${server.host}:${server.folder}`, idmappedPoint, `${server.mountOptions},idmap=true`)
    idmapped = new Judge({ program, folder: path.join(idmappedPoint, 'idmapped'), judged: 'nfs' })
  }
  local = new Judge({ program, folder: path.join(server.folder, 'local'), judged: 'local' })
})

test.after.always(async () => {
  await mounted?.close()
  await solo?.close()
  await idmapped?.close()
  await local?.close()
  await node?.close()
  await server?.close()
})

for (const [name, rules] of Object.entries(tables)) {
  for (const rule of rules) {
    check(`${name}: ${rule.title}`, async (t) => {
      t.deepEqual(await local.run(rule), [], 'on the exported folder itself: the rule is wrong')
      t.deepEqual(await mounted.run(rule), [], 'on the mount')
      t.deepEqual(await solo.run(rule), [], 'on a mount with consistency=solowriter')
      t.deepEqual(await idmapped?.run(rule) ?? [], [], 'on a mount with idmap')
    })
  }
}

/** Every call that would change something, after `put f hello`, `mkdir d` and `symlink f s` by root. */
const changing = [
  'mkdir x 0755', 'rmdir d', 'open x CREAT|RDWR 0644', 'open f WRONLY', 'open f RDWR', 'open f RDONLY|TRUNC',
  'truncate f 0', 'unlink f', 'rename f g',
  'link f g', 'symlink f x', 'mkfifo p 0644', 'mknod n file 0644', 'chmod f 0600', 'chown f 2001 2001',
  'lchown s 2001 2001', 'utimens f 1 2', 'utimesnull f', 'access f w'
] as const

check('a read-only mount: EROFS for whatever changes something, and reading works', async (t) => {
  const readOnly = node.makeFolder('read-only')
  await node.mount(`${server.host}:${server.folder}`, readOnly, `${server.mountOptions},ro`)
  const user = new CallingUser(program, 'root')
  try {
    await user.call(`cd ${point}`)
    for (const call of ['put f hello', 'mkdir d 0755', 'symlink f s']) t.regex(await user.call(call), /^ok/)
    await user.call(`cd ${readOnly}`)
    for (const call of changing) t.is(await user.call(call), 'EROFS', call)
    t.is(await user.call('get f'), 'ok hello')
    t.is(await user.call('access f r'), 'ok')
    t.is(await user.call('open f CREAT|RDONLY 0644').then((answer) => answer.slice(0, 2)), 'ok')
    t.is(await user.call('list d'), 'ok')
  } finally {
    await user.close()
  }
})

check('link and rename out of the mount are EXDEV', async (t) => {
  const user = new CallingUser(program, 'root')
  try {
    await user.call(`cd ${point}`)
    await user.call('put f hello')
    t.is(await user.call(`link f ${node.folder}/f`), 'EXDEV')
    t.is(await user.call(`rename f ${node.folder}/f`), 'EXDEV')
    t.is(await user.call(`rename ${server.folder}/f f`), 'EXDEV')
    t.is(await user.call('get f'), 'ok hello')
  } finally {
    await user.close()
  }
})
