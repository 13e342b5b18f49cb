/**
 * A node with systemd and cgroup v2 in a virtual machine. kubelet's part is played by a unit that calls the driver and
 * is then restarted, killed with all that is in its cgroup, and stopped. The agent that its first call has started, and
 * the pod's files, must not notice.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { sessionMemoryBytesMax, sessionTasksMax } from '../../../agent/base/limits.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { hostAddress, VirtualMachine } from '../../peers/vm/machine.ts'
import { systemdFiles } from '../../peers/vm/systemd.ts'
import { binary } from '../endtoend/node.ts'

const needs = ['root', 'ganesha', 'qemu', 'systemd'] as const
const check = testNeeding(...needs)

const driver = '/usr/libexec/kubernetes/kubelet-plugins/volume/exec/volbridge.io~volbridge/volbridge'
const target = '/var/lib/kubelet/pods/pod/volumes/volbridge.io~volbridge/data'
/** kubelet asks again as well, and a guest without a tenth of a processor may need it. */
const attempts = 5

const cgroups = '/sys/fs/cgroup'
const unitCgroup = `${cgroups}/system.slice/kubelet.service`

/** What a driver starts without leaving the unit's cgroup: its end shows that the unit's end was one. */
const bystander = 'sleep 100001'

/** A kubelet that makes one call after the other, as kubeadm's unit would start it: KillMode is systemd's own,
 * control-group. */
const kubeletScript = `#!/bin/sh
setsid ${bystander} > /dev/null 2>&1 < /dev/null &
while read -r call < /var/kubelet/calls; do
  sh "$call" > "$call.output" 2>&1
  mv "$call.output" "$call.answer"
done`
const kubeletUnit = `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh /var/kubelet/kubelet.sh
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
Restart=always
RestartSec=100ms`

/** As an upgrade of its package does. Its socket is away for a moment. */
const renewSystemd = 'systemctl daemon-reexec; until systemctl show > /dev/null 2>&1; do sleep 0.1; done\n'

/** A pod: one file that it holds open all the time. */
const podScript = `#!/bin/sh
exec 3>> ${target}/held
while read -r word < /var/pod/words; do echo "$word" >&3; done`
const podUnit = `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh /var/pod/pod.sh`

let server: Ganesha
let node: VirtualMachine
let calls = 0

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start({ numericOwners: true })
  node = await VirtualMachine.start({ modules: ['fuse'], files: { [driver]: binary, ...systemdFiles() } })
  const write = (file: string, text: string): string =>
    `mkdir -p ${path.dirname(file)} && cat > ${file} <<'END'\n${text}\nEND\n`
  await node.shell(
    `${write('/var/kubelet/kubelet.sh', kubeletScript)}${write('/etc/systemd/system/kubelet.service', kubeletUnit)}
    ${write('/var/pod/pod.sh', podScript)}${write('/etc/systemd/system/pod.service', podUnit)}
    mkfifo /var/kubelet/calls /var/pod/words
    mkdir -p ${target}
    systemctl start kubelet.service`
  )
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

/** A call of the driver from within the unit: the status, and the message of what is no success. */
async function answerOf (call: string): Promise<string> {
  const file = `/var/kubelet/call-${++calls}`
  const text = await node.shell(`cat > ${file} <<'END'\n${driver} ${call}\nEND
    echo ${file} > /var/kubelet/calls
    while ! [ -e ${file}.answer ]; do sleep 0.1; done
    cat ${file}.answer`)
  const { status, message = '' } = JSON.parse(text) as { status: string, message?: string }
  return status === 'Success' ? status : `${status}: ${message}`
}

async function untilDone (call: string): Promise<string> {
  for (let attempt = 1;; attempt++) {
    const answer = await answerOf(call)
    if (answer === 'Success' || attempt === attempts) return answer
  }
}

const lines = (text: string): readonly string[] => text.split('\n').filter((line) => line !== '')

/** `group pid` of session and agent: the oldest in each group, which may have forked a child for a call that blocks. */
const ours = async (): Promise<readonly string[]> =>
  lines(
    await node.shell(
      `for group in volbridge-agent volbridge-sessions/*; do
     for pid in $(sort -n ${cgroups}/$group/cgroup.procs 2> /dev/null | head -n 1); do echo $\{group%/*} $pid; done
   done`
    )
  )

const mainPid = async (): Promise<string> =>
  (await node.shell('systemctl show --property MainPID --value kubelet.service')).trim()

/** Waits for it: a unit is active as soon as its shell is there. */
const bystanderPid = async (): Promise<string> =>
  (await node.shell(
    `while sleep 0.1; do
     for pid in $(cat ${unitCgroup}/cgroup.procs 2> /dev/null); do
       [ "$(cat /proc/$pid/cmdline 2> /dev/null | tr '\\0' ' ')" != '${bystander} ' ] || { echo $pid; exit; }
     done
   done`
  )).trim()

/** What was open goes on, what is new arrives, both ways. */
async function worksAs (t: ExecutionContext, word: string): Promise<void> {
  writeFileSync(path.join(server.folder, `to-${word}`), `hello ${word}`)
  t.is(await node.shell(`cat ${target}/to-${word}; echo ${word} > ${target}/from-${word}`), `hello ${word}`)
  t.is(readFileSync(path.join(server.folder, `from-${word}`), 'utf8'), `${word}\n`)
  await node.shell(`echo held-${word} > /var/pod/words
    until grep -q held-${word} ${target}/held; do sleep 0.1; done
    sync ${target}/held`)
  t.true(readFileSync(path.join(server.folder, 'held'), 'utf8').endsWith(`held-${word}\n`))
}

check('process 1 is systemd with cgroup v2, and nothing can be executed below /run', async (t) => {
  t.is(
    await node.shell('cat /proc/1/comm; grep -c " /sys/fs/cgroup .* - cgroup2 " /proc/self/mountinfo'),
    'systemd\n1\n'
  )
  t.is(await node.shell('grep -c " /run .*noexec" /proc/self/mountinfo'), '1\n')
  t.is(
    await node.shell(`cut -d: -f3 /proc/$(systemctl show --property MainPID --value kubelet.service)/cgroup`),
    '/system.slice/kubelet.service\n'
  )
})

check('the agent that a call of the unit has started, and its session, are in cgroups of their own', async (t) => {
  const json = JSON.stringify({
    'kubernetes.io/fsType': '', 'kubernetes.io/readwrite': 'rw', 'kubernetes.io/pvOrVolumeName': 'data',
    server: hostAddress, share: server.folder, mountOptions: server.mountOptions
  })
  t.is(await untilDone(`mount ${target} '${json}'`), 'Success')
  await node.shell('systemctl start pod.service')
  await worksAs(t, 'first')
  t.deepEqual((await ours()).map((line) => line.split(' ')[0]), ['volbridge-agent', 'volbridge-sessions'])
  t.is(
    await node.shell(`cat ${cgroups}/volbridge-sessions/*/memory.max ${cgroups}/volbridge-sessions/*/pids.max
      cat /proc/$(cat ${cgroups}/volbridge-sessions/*/cgroup.procs)/oom_score_adj`),
    `${sessionMemoryBytesMax}\n${sessionTasksMax}\n-500\n`
  )
  const status = await node.shell(`cat /proc/$(cat ${cgroups}/volbridge-sessions/*/cgroup.procs)/status`)
  for (const line of [/^Uid:\s+19\d{8}\s/m, /^CapEff:\s+0000000000000400$/m, /^NoNewPrivs:\s+1$/m, /^Seccomp:\s+2$/m]) {
    t.regex(status, line)
  }
  // This kernel has Landlock, and systemd gives a service everything.
  t.is(await node.shell(`grep -c -E 'can name every file|keeps all cap' /var/lib/volbridge/agent.log || true`), '0\n')
  t.regex(
    await node.shell(`cat /proc/$(head -n 1 ${cgroups}/volbridge-agent/cgroup.procs)/status`),
    /^CapBnd:\s+00000000012c07ea$/m
  )
  // PF_MEMALLOC_NOIO of the kernel's sched.h: what PR_SET_IO_FLUSHER sets, in field 9 of stat, proc(5).
  const stat = await node.shell(`cat /proc/$(cat ${cgroups}/volbridge-sessions/*/cgroup.procs)/stat`)
  t.not(
    Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[6]) & 0x0008_0000,
    0,
    'memory does not wait for pages that it writes'
  )
})

for (const [name, command, comesBack] of [
  ['restarted', 'systemctl restart kubelet.service', true],
  ['restarted by a systemd that was renewed itself', renewSystemd + 'systemctl restart kubelet.service', true],
  ['killed with all of its cgroup', 'systemctl kill --signal KILL kubelet.service', true],
  ['stopped', 'systemctl stop kubelet.service', false]
] as const) {
  check(`the unit is ${name}: agent and session live on, the pod's open file is written, new ones come and go`, async (t) => {
    const [before, main, other] = [await ours(), await mainPid(), await bystanderPid()]
    t.is(before.length, 2)
    await node.shell(`${command}
      while [ -d /proc/${main} -o -d /proc/${other} ]; do sleep 0.1; done`)
    t.deepEqual(await ours(), before)
    await worksAs(t, name.replaceAll(' ', '-'))
    if (comesBack) await bystanderPid()
    else await node.shell(`while [ -d ${unitCgroup} ]; do sleep 0.1; done`)
    t.is(await mainPid() !== '0', comesBack)
    t.deepEqual(await ours(), before)
  })
}

check('kubelet comes back and unmounts: nothing is mounted, and once the agent has ended no cgroup of ours is left', async (t) => {
  await node.shell('systemctl stop pod.service; systemctl start kubelet.service')
  t.is(await untilDone(`unmount ${target}`), 'Success')
  t.is(
    await node.shell(`grep -cE " - fuse\\S* " /proc/self/mountinfo || true; ls ${target} 2> /dev/null | wc -l`),
    '0\n0\n'
  )
  t.true(readFileSync(path.join(server.folder, 'held'), 'utf8').startsWith('held-first\n'))
  await node.shell(`pid=$(sort -n ${cgroups}/volbridge-agent/cgroup.procs | head -n 1)
    kill $pid
    while [ -d /proc/$pid ]; do sleep 0.1; done`)
  t.is(await node.shell(`ls -d ${cgroups}/volbridge* 2> /dev/null | wc -l`), '0\n')
})
