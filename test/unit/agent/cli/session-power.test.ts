/** What the doctor says about the power that sessions have on a node. */
import test from 'ava'
import { judgePower } from '../../../../agent/cli/session-power.ts'
import { capabilitiesAtBirth, confine, hidesProcesses } from '../../../../agent/host/confine.ts'
import { parseMountinfo } from '../../../../agent/host/mountinfo.ts'

const all = 'CapEff:\t000001ffffffffff\nNoNewPrivs:\t0\nSeccomp:\t0\n'
const v2 = parseMountinfo('30 22 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n')
const v1 = parseMountinfo(
  '30 22 0:30 / /c/memory rw - cgroup cgroup rw,memory\n31 22 0:31 / /c/pids rw - cgroup cgroup rw,pids\n'
)
const procWith = (options: string): ReturnType<typeof parseMountinfo> =>
  parseMountinfo(`24 22 0:22 / /proc rw - proc proc ${options}\n`)
const none = (): readonly string[] => []

test('a node with everything lacks nothing, with cgroups of either version', (t) => {
  const holds = [
    'a user of its own with NET_BIND_SERVICE alone', 'a list of system calls',
    'a list of files, ports, abstract sockets (Landlock 7)', 'limits for memory and pids'
  ]
  t.deepEqual(judgePower({ status: all, mounts: v1, viewAbi: 7, controllersAt: none }), { holds, lacks: [] })
  t.deepEqual(judgePower({ status: all, mounts: v2, viewAbi: 7, controllersAt: () => ['cpu', 'memory', 'pids'] }), {
    holds, lacks: []
  })
})

test('what is missing is named with what it means', (t) => {
  const { holds, lacks } = judgePower({
    status: 'CapEff:\t0000000000000040\n', mounts: v2, viewAbi: 0, controllersAt: () => ['pids']
  })
  t.deepEqual(holds, ['limits for pids'])
  t.deepEqual(lacks.map((each) => each.split(' ').slice(0, 2).join(' ')), [
    'without CAP_SETUID', 'without CAP_SETPCAP', 'without CAP_SYS_RESOURCE', 'this kernel', 'this kernel',
    'no cgroup'
  ])
})

test('every spelling of hidepid keeps the one capability with which others are seen', (t) => {
  for (const option of ['hidepid=1', 'hidepid=2', 'hidepid=invisible', 'hidepid=noaccess', 'hidepid=ptraceable']) {
    t.true(hidesProcesses(procWith(`rw,${option},gid=7`)), option)
    t.deepEqual(capabilitiesAtBirth(procWith(option)), [1 << 19 | 1 << 10 | 1 << 7 | 1 << 6, 0])
  }
  for (const option of ['rw', 'hidepid=0', 'hidepid=off']) t.false(hidesProcesses(procWith(option)), option)
  t.deepEqual(capabilitiesAtBirth(procWith('rw')), [1 << 10 | 1 << 7 | 1 << 6, 0])
})

test('a step that is refused is a sentence, and the others are taken all the same', (t) => {
  const taken: unknown[] = []
  const lacks = confine({
    mounts: procWith('rw'), pid: 5, reservedPorts: false,
    addon: {
      becomeUser: (...request) => { taken.push(request); return 1 },
      forbidDumps: () => { taken.push('dumps'); return 0 },
      filterSystemCalls: () => { taken.push('filter'); return 22 }, viewAbi: () => 0
    }
  })
  t.deepEqual(taken, [[1_900_000_005, 0], 'dumps', 'filter'])
  t.deepEqual(lacks, [
    'the session keeps uid 0: this node refuses to change it (EPERM)',
    'the session may make every system call: this node refuses to change it (EINVAL)'
  ])
})

test('of Landlock it is said what this kernel\'s version holds, and that hidepid leaves none of it', (t) => {
  const of = (viewAbi: number, mounts = v1): ReturnType<typeof judgePower> =>
    judgePower({ status: all, mounts, viewAbi, controllersAt: none })
  t.true(of(2).holds.includes('a list of files (Landlock 2)'))
  t.deepEqual(of(2).lacks, ['Landlock 2 limits no ports (Linux 6.7 does)'])
  t.true(of(4).holds.includes('a list of files, ports (Landlock 4)'))
  t.true(of(7, procWith('rw,hidepid=2')).lacks.some((each) => each.startsWith('with hidepid no Landlock')))
})
