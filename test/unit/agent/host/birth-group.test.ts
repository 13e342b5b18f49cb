/** Which cgroup files a session's birth writes, in which order, and what a refusal means: on v1, hybrid and v2. */
import test from 'ava'
import { birthSteps, judgeBirth, otherGroups, removeGroup } from '../../../../agent/host/birth-group.ts'
import { launch } from '../../../../agent/host/launch.ts'
import { parseMountinfo } from '../../../../agent/host/mountinfo.ts'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const line = (at: string, type: string, options: string): string =>
  `30 22 0:30 / ${at} rw - ${type} cgroup ${options}\n`
const unified = line('/c', 'cgroup2', 'rw')
const hybrid = line('/c/unified', 'cgroup2', 'rw') + line('/c/memory', 'cgroup', 'rw,memory') +
  line('/c/pids', 'cgroup', 'rw,pids') + line('/c/rdma', 'cgroup', 'rw,rdma')
const group = { parent: 'all', name: 'one' }
const limits = { memoryBytes: 4096, tasks: 7 }
const stepsOf = (text: string): ReturnType<typeof birthSteps> => birthSteps(parseMountinfo(text), group, limits)
const show = (text: string): readonly string[] => stepsOf(text).map(({ path, text: word }) => `${path} ${word}`.trim())

test('v2: controllers are handed down, limits stand before the process enters, and entering comes last', (t) => {
  t.deepEqual(show(unified), [
    '/c/cgroup.subtree_control +memory', '/c/cgroup.subtree_control +pids', '/c/all', '/c/all/one',
    '/c/all/cgroup.subtree_control +memory', '/c/all/cgroup.subtree_control +pids', '/c/all/one/memory.max 4096',
    '/c/all/one/pids.max 7', '/c/all/one/cgroup.procs 0'
  ])
})

test('v1: each hierarchy has the limit it knows, and those that hold nothing are left at their top', (t) => {
  const steps = show(hybrid)
  t.true(steps.includes('/c/memory/all/one/memory.limit_in_bytes 4096'))
  t.true(steps.includes('/c/pids/all/one/pids.max 7'))
  t.false(steps.some((step) => step.includes('memory/all/one/pids')))
  t.deepEqual(steps.filter((step) => step.startsWith('/c/rdma')), ['/c/rdma/cgroup.procs 0'])
})

test('a hierarchy mounted twice under one name is entered once', (t) => {
  t.deepEqual(show(unified + unified), show(unified))
})

test('a limit counts where any hierarchy holds it: a hybrid\'s v2 side offers none', (t) => {
  const steps = stepsOf(hybrid)
  const refused = steps.filter(({ path }) => path.startsWith('/c/unified') && /max|subtree/.test(path))
  t.true(refused.length > 0)
  t.deepEqual(judgeBirth(steps, refused.map((step) => ({ ...step, code: 'ENOENT' }))), {
    moved: ['/c/unified/all/one', '/c/memory/all/one', '/c/pids/all/one'], failed: [], unlimited: []
  })
})

test('a limit of a group that could not be entered holds nothing', (t) => {
  const steps = stepsOf(unified)
  const entry = steps.filter(({ path }) => path.endsWith('cgroup.procs')).map((step) => ({ ...step, code: 'EBUSY' }))
  t.deepEqual(judgeBirth(steps, entry), {
    moved: [], failed: [{ path: '/c/all/one/cgroup.procs', reason: 'EBUSY' }], unlimited: ['memory', 'pids']
  })
})

test('a refused limit is said, and the process is in the group all the same', (t) => {
  const steps = stepsOf(unified)
  const refused = steps.filter(({ path }) => path.endsWith('memory.max')).map((step) => ({ ...step, code: 'ENOENT' }))
  t.deepEqual(judgeBirth(steps, refused), { moved: ['/c/all/one'], failed: [], unlimited: ['memory'] })
})

test('a group whose threads are not all gone yet is removed a moment later, and its parent only with the last one', async (t) => {
  const calls: string[] = []
  let busy = 2
  const busyError = Object.assign(new Error('busy'), { code: 'EBUSY' })
  await removeGroup(group, {
    mountinfo: async () => parseMountinfo(unified),
    makeFolder: async () => undefined,
    writeControl: async () => undefined,
    foldersIn: async () => [],
    removeFolders: async (paths) => {
      calls.push(paths.join(' '))
      if (busy-- > 0) throw busyError
      // Another session's group is in the parent.
      if (paths.length === 2) throw busyError
    }
  })
  t.deepEqual(calls.at(-1), '/c/all/one')
  t.true(calls.length >= 2 && calls.length <= 4, calls.join())
})

test('a program begins after its preparations; one that is refused is told by its errno and stops nothing', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'volbridge-birth-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  const made = join(folder, 'made')
  const preparations = [
    { path: made, text: '' }, { path: made, text: '' }, { path: join(folder, 'nowhere'), text: 'x' },
    { path: '/proc/self/oom_score_adj', text: '7' }
  ]
  const out = join(folder, 'out')
  const program = {
    file: '/bin/sh', args: ['-c', `test -d ${made} && cat /proc/self/oom_score_adj > ${out}; sleep 0.3`]
  }
  // The wait for a program's end keeps nobody alive. It lives long enough to be seen living, on a busy machine too.
  const alive = setInterval(() => undefined, 1000)
  t.teardown(() => { clearInterval(alive) })
  const { unprepared, ended } = await launch({ ...program, env: { PATH: '/usr/bin:/bin' }, fds: [], preparations })
  t.deepEqual(unprepared, [{ path: join(folder, 'nowhere'), text: 'x', code: 'ENOENT' }])
  t.is(await ended, 'exited with code 0')
  t.is(readFileSync(out, 'utf8'), '7\n')
})

test('groups of other names are found in every hierarchy that matters, and none where there is no folder', async (t) => {
  const at: Readonly<Record<string, readonly string[]>> = {
    '/c/unified/all': ['one', 'two'], '/c/memory/all': ['three'], '/c/rdma/all': ['four']
  }
  const found = await otherGroups('all', new Set(['one']), {
    mountinfo: async () => parseMountinfo(hybrid),
    makeFolder: async () => undefined,
    writeControl: async () => undefined,
    foldersIn: async (path) => at[path] ?? [],
    removeFolders: async () => undefined
  })
  t.deepEqual(found, ['/c/unified/all/two', '/c/memory/all/three'])
})
