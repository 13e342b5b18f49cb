/** What ids of the node are in a volume with idmapped mounts: texts of /proc as the kernel writes them (Linux 6.18). */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { taskFileBytesMax } from '../../../../agent/base/limits.ts'
import { Credentials } from '../../../../agent/session/credentials.ts'
import { IdMapping, mappingIn, parseParent, type Ids, type TaskFile } from '../../../../agent/session/idmap.ts'
import { createTaskFileReader, createTaskOwnerReader } from '../../../../agent/session/proc-namespaces.ts'
import { statusHeadBytes } from '../../../../agent/session/proc-status.ts'
import { Tasks } from '../../../../agent/session/tasks.ts'

const device = '0:55'
const whole = '         0          0 4294967295\n'
const pod = '         0     655360      65536\n'
/** What `unshare --map-root-user` of the pod's uid 1000 writes, as the node sees it. */
const selfMade = '         0     656360          1\n'

const line = (mount: string, options: string, number = device): string =>
  `${mount} 30 ${number} / /data ${options} master:5 - fuse.volbridge host:/share rw,user_id=0\n`
const rootLine = '29 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n'
const idmapped = `${rootLine}${line('31', 'rw,nosuid,nodev,relatime,idmapped')}`
const plain = `${rootLine}${line('31', 'rw,nosuid,nodev,relatime')}`

interface Process {
  readonly map?: string
  readonly gidMap?: string
  readonly mounts?: string
  readonly parent?: number
  readonly owner?: number
}

/** Process 1 is the node's. */
class Node {
  now = 0
  readonly asked: string[] = []
  readonly mapping: IdMapping
  readonly processes: Map<number, Process>

  constructor (processes: Readonly<Record<number, Process>>) {
    this.processes = new Map(Object.entries(processes).map(([pid, process]) => [Number(pid), process]))
    this.mapping = new IdMapping({
      read: (task, file) => this.read(task, file), readOwner: (task) => this.processes.get(task)?.owner,
      now: () => this.now, device
    })
  }

  read (task: number | 'self', file: TaskFile): string | undefined {
    this.asked.push(`${task}/${file}`)
    const process = task === 'self' || task === 1 ? {} : this.processes.get(task)
    if (process === undefined) return undefined
    const { map = whole, gidMap = map, mounts = plain, parent = 1 } = process
    const texts = { uid_map: map, gid_map: gidMap, mountinfo: mounts, stat: `${task} (a) b) c) S ${parent} 1 1 0` }
    return texts[file]
  }

  ids (pid: number, uid: number, groups: readonly number[] = []): Ids | undefined {
    return this.mapping.inVolume(pid, { uid, gid: uid, groups })
  }
}
const same = (uid: number, groups: readonly number[] = []): Ids => ({ uid, gid: uid, groups })

test('a process of the node has its own ids, whatever is mounted', (t) => {
  const node = new Node({ 50: { mounts: idmapped } })
  t.deepEqual(node.ids(50, 1000, [4]), same(1000, [4]))
  t.deepEqual(node.ids(50, 0), same(0))
})

test('a pod with an idmapped mount has the ids that it has inside; groups that are not its own are left out', (t) => {
  const node = new Node({ 50: { map: pod, mounts: idmapped } })
  t.deepEqual(node.ids(50, 656_360, [655_360, 655_369, 4]), same(1000, [0, 9]))
  t.deepEqual(node.ids(50, 655_360), same(0))
  t.is(node.ids(50, 655_360 + 65_536), undefined)
  t.is(node.ids(50, 0), undefined)
})

test('a user namespace without an idmapped mount has the ids of the node', (t) => {
  const node = new Node({ 50: { map: selfMade, mounts: plain }, 51: { map: pod, mounts: plain } })
  t.deepEqual(node.ids(50, 656_360), same(656_360))
  t.deepEqual(node.ids(51, 656_360, [7]), same(656_360, [7]))
})

test('both kinds of mounts, none at all, or a text too long to read: nobody can tell', (t) => {
  const node = new Node({
    50: { map: pod, mounts: `${plain}${idmapped}` },
    51: { map: pod, mounts: `${rootLine}${line('40', 'rw,idmapped', '0:56')}` },
    52: { map: pod, mounts: '' }
  })
  for (const pid of [50, 51, 52]) t.is(node.ids(pid, 655_360), undefined, String(pid))
})

test('who makes a user namespace of its own in a pod stays who it is in the pod', (t) => {
  const node = new Node({
    50: { map: pod, mounts: idmapped },
    51: { map: selfMade, mounts: idmapped, parent: 50 },
    52: { map: selfMade, mounts: idmapped, parent: 51 }
  })
  for (const pid of [52, 51]) t.deepEqual(node.ids(pid, 656_360), same(1000))
  // A helper with many ids of a large pod's own makes a map that looks like a pod's: the outermost counts.
  const large = new Node({
    50: { map: '0 655360 131072\n', mounts: idmapped }, 51: { map: '0 720896 65536\n', mounts: idmapped, parent: 50 }
  })
  t.deepEqual(large.ids(51, 720_896), same(65_536))
})

test('a map that no runtime makes for a pod tells nothing, and nothing of what is below it', (t) => {
  for (
    const map of [selfMade, `${selfMade} 1 100000 65536\n`, '1 655360 65536\n', '0 655360 65535\n', '', '0 1 x\n']
  ) {
    const node = new Node({ 50: { map, mounts: idmapped }, 51: { map: pod, mounts: idmapped, parent: 50 } })
    for (const pid of [50, 51]) t.is(node.ids(pid, 656_360), undefined, map)
  }
  const halves = new Node({ 50: { map: pod, gidMap: selfMade, mounts: idmapped } })
  t.is(halves.ids(50, 656_360), undefined)
})

test('a process that has gone, or whose ancestors never end, tells nothing', (t) => {
  const node = new Node({
    ...Object.fromEntries(
      Array.from({ length: 100 }, (_, n) => [n + 100, { map: pod, mounts: idmapped, parent: n + 101 }])
    ),
    60: { map: pod, mounts: idmapped, parent: 61 }
  })
  t.is(node.ids(7, 0), undefined)
  t.is(node.ids(100, 655_360), undefined)
  t.is(node.ids(60, 655_360), undefined, 'its parent is never there')
})

test('a parent that ends between two looks is asked for again', (t) => {
  const node = new Node({ 50: { map: pod, mounts: idmapped, parent: 49 } })
  const { read } = node
  node.read = (task, file) => {
    const text = read.call(node, task, file)
    if (task === 49 && file === 'stat') node.processes.set(50, { map: pod, mounts: idmapped, parent: 1 })
    return text
  }
  t.deepEqual(node.ids(50, 655_360), same(0))
})

test('maps and mounts are read once a second, and again for ids that the map does not have', (t) => {
  const node = new Node({ 50: { map: pod, mounts: idmapped } })
  node.ids(50, 655_360)
  const count = node.asked.length
  node.ids(50, 655_361)
  t.is(node.asked.length, count)
  node.processes.set(50, { map: '0 1310720 65536\n', mounts: idmapped })
  t.deepEqual(node.ids(50, 1_310_721), same(1))
  node.processes.set(50, { map: pod, mounts: plain })
  node.now = 1500
  t.deepEqual(node.ids(50, 655_361), same(655_361))
})

test('mounts of other file systems do not count, and neither do words that look like the option', (t) => {
  t.is(mappingIn(`${plain}${line('41', 'rw,idmapped', '0:5')}${line('42', 'rw,idmapped', '0:555')}`, device), 'plain')
  t.is(mappingIn(rootLine + line('41', 'rw,notidmapped'), device), 'plain')
  t.is(mappingIn('', device), 'unclear')
  t.is(parseParent('12 (sh) S 7 12 12 0 -1'), 7)
  t.is(parseParent('12 (:) S 99 () R) S 7 12'), 7)
})

const noId = 0xffff_ffff
const tasksOf = (read: (tid: number) => string | undefined, now = () => 0): Tasks =>
  new Tasks({ head: (tid) => read(tid)?.slice(0, statusHeadBytes), later: async (tid) => read(tid) }, now)
const status = (fsuid: number, groups = ''): string =>
  `Name:\tUid:\t9\nTgid:\t50\nUid:\t0\t0\t0\t${fsuid}\nGid:\t0\t0\t0\t${fsuid}\nGroups:\t${groups} \n`

test('where the header says nothing the process is asked each time; what makes an inode carries the right ids', (t) => {
  const node = new Node({ 50: { map: pod, mounts: idmapped } })
  let text: string | undefined = status(655_360, '655369')
  const credentials = new Credentials(tasksOf(() => text), () => 0, undefined, node.mapping)
  t.like(credentials.of(noId, noId, 50), { uid: 0, gid: 0, groups: [9] })
  text = status(656_360)
  t.like(credentials.of(noId, noId, 50), { uid: 1000, gid: 1000, groups: [] })
  text = status(656_360, '655369')
  t.like(credentials.of(7, 8, 50), { uid: 7, gid: 8, groups: [9] })
})

test('a caller that cannot be told is nobody, never root', (t) => {
  const node = new Node({ 50: { map: selfMade, mounts: idmapped } })
  for (const text of [undefined, '', 'Uid:\t0\n', status(656_360, '0 655360')]) {
    const credentials = new Credentials(tasksOf(() => text), () => 0, undefined, node.mapping)
    for (const pid of [50, 0]) t.like(credentials.of(noId, noId, pid), { uid: 65_534, gid: 65_534, groups: [] })
    t.like(credentials.of(7, 8, 0), { uid: 7, gid: 8, groups: [] })
  }
  const identity = new Credentials(tasksOf(() => undefined), () => 0, { uid: 5, gid: 6 }, node.mapping)
  t.like(identity.of(noId, noId, 50), { uid: 5, gid: 6, groups: [] })
})

test('who has tens of thousands of groups waits for that alone on an idmapped volume too', async (t) => {
  const node = new Node({
    50: { map: pod, mounts: idmapped, owner: 655_360 }, 51: { map: pod, mounts: idmapped, owner: 655_360 },
    52: { map: pod, mounts: idmapped, owner: 656_360 }
  })
  const many = Array.from({ length: 65_536 }, (_, n) => 655_360 + n).join(' ')
  const tasks = tasksOf((tid) => tid === 52 ? status(656_360, '655361') : status(655_360, many))
  const credentials = new Credentials(tasks, () => 0, undefined, node.mapping)
  t.like(credentials.of(noId, noId, 50), { uid: 0, gid: 0 })
  for (const tid of [50, 51]) {
    const later = await credentials.ofSlow(noId, noId, tid)
    t.is(later?.uid, 0)
    t.deepEqual(later?.groups, Array.from({ length: 17 }, (_, n) => n))
  }
  t.is(credentials.ofSlow(noId, noId, 52), undefined)
  t.like(credentials.of(noId, noId, 52), { uid: 1000, groups: [1] })
})

test('files of a task are read whole up to a limit, or not at all', (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-proc-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  mkdirSync(path.join(folder, '5'))
  const read = createTaskFileReader(folder)
  writeFileSync(path.join(folder, '5/mountinfo'), 'x'.repeat(taskFileBytesMax))
  t.is(read(5, 'mountinfo')?.length, taskFileBytesMax)
  writeFileSync(path.join(folder, '5/mountinfo'), 'x'.repeat(taskFileBytesMax + 1))
  t.is(read(5, 'mountinfo'), undefined)
  t.is(read(6, 'mountinfo'), undefined)
  t.is(createTaskOwnerReader(folder)(6), undefined)
  t.is(createTaskOwnerReader()(process.pid), process.geteuid?.())
  t.is(createTaskFileReader()('self', 'uid_map'), createTaskFileReader()(process.pid, 'uid_map'))
})
