/**
 * A legacy node: Debian's 6.1 kernel, busybox, no NFS tools, no agent. One file is copied into kubelet's plugin folder;
 * the conformance kit plays kubelet inside, and pods read and write through both clients.
 */
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { skipped, testNeeding } from '../../peers/testing.ts'
import { hostAddress, VirtualMachine } from '../../peers/vm/machine.ts'
import { binary } from '../endtoend/node.ts'

const needs = ['root', 'ganesha', 'qemu'] as const
/** Each call starts the packed binary, which takes seconds in there: the whole is for the long tier. */
const isLong = process.env['VOLBRIDGE_LONG'] === '1'
const check = isLong ? testNeeding(...needs) : skipped

const kitFolder = path.resolve(import.meta.dirname, '../../conformance/flex')
const driver = '/usr/libexec/kubernetes/kubelet-plugins/volume/exec/volbridge.io~volbridge/volbridge'
const kitMs = 1_800_000

let server: Ganesha
let node: VirtualMachine

/** The kit and a Node to run it: what the driver itself needs is nothing of it. */
function kitFiles (): Record<string, string> {
  const sources = readdirSync(kitFolder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts') && !name.endsWith('.test.ts')
  )
  return {
    '/kit/node': process.execPath,
    ...Object.fromEntries(sources.map((name) => [`/kit/${name}`, path.join(kitFolder, name)]))
  }
}

test.before(async () => {
  if (!isLong || missing(...needs) !== undefined) return
  server = await Ganesha.start({ numericOwners: true })
  writeFileSync(path.join(server.folder, 'from-server'), 'hello')
  node = await VirtualMachine.start({
    modules: ['sunrpc', 'nfs', 'fuse'], memoryMebibytes: 1536, files: { [driver]: binary, ...kitFiles() }
  })
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

const fuse = (): Record<string, string> => ({
  server: hostAddress, share: server.folder, mountOptions: server.mountOptions
})
const kernel = (): Record<string, string> => ({
  server: hostAddress, share: server.pseudo, client: 'kernel', mountOptions: `soft,port=${server.nfsPort}`
})

check('the node has no NFS tools, no libfuse and no agent', async (t) => {
  t.is(
    await node.shell(
      'ls /sbin/mount.nfs /usr/sbin/rpc.statd /usr/sbin/nfsidmap /usr/bin/fusermount* 2> /dev/null | wc -l; pidof volbridge | wc -w'
    ),
    '0\n0\n'
  )
})

/** The status, and the message of what is no success. */
async function answerOf (call: string): Promise<string> {
  const { status, message = '' } = JSON.parse(await node.shell(`${driver} ${call}`)) as {
    status: string
    message?: string
  }
  return status === 'Success' ? status : `${status}: ${message}`
}

/** As kubelet does: a node without a tenth of a processor may need more than one attempt. */
async function untilMounted (target: string, json: string): Promise<string> {
  for (let attempt = 1;; attempt++) {
    const answer = await answerOf(`mount ${target} '${json}'`)
    if (answer === 'Success' || attempt === 5) return answer
  }
}

for (const [name, options, type] of [['the own client over FUSE', fuse, 'fuse'], [
  'the kernel\'s client', kernel, 'nfs4'
]] as const) {
  check(`a pod's volume through ${name}: the first call starts an agent, files are read and written, unmount leaves nothing`, async (t) => {
    const target = `/var/lib/kubelet/pods/${type}/volumes/volbridge.io~volbridge/data`
    const json = JSON.stringify({
      'kubernetes.io/fsType': '', 'kubernetes.io/readwrite': 'rw', 'kubernetes.io/pvOrVolumeName': 'data', ...options()
    })
    await node.shell(`mkdir -p ${target}`)
    t.is(await untilMounted(target, json), 'Success')
    t.is(
      await node.shell(
        `cat ${target}/from-server; echo from-${type} > ${target}/from-pod; grep -c " ${target} .* - ${type}" /proc/self/mountinfo`
      ),
      'hello1\n'
    )
    t.is(readFileSync(path.join(server.folder, 'from-pod'), 'utf8'), `from-${type}\n`)
    t.is(await answerOf(`unmount ${target}`), 'Success')
    t.is(
      await node.shell(`grep -cE " - (nfs4?|fuse\\S*) " /proc/self/mountinfo || true; ls ${target} | wc -l`),
      '0\n0\n'
    )
  })
}

check('idmap on a kernel before Linux 6.12 is refused by name with the remedy, and nothing is left mounted', async (t) => {
  const target = '/var/lib/kubelet/pods/idmap/volumes/volbridge.io~volbridge/data'
  const json = JSON.stringify({
    'kubernetes.io/fsType': '', 'kubernetes.io/readwrite': 'rw', 'kubernetes.io/pvOrVolumeName': 'data', ...fuse(),
    idmap: 'true'
  })
  await node.shell(`mkdir -p ${target}`)
  t.regex(
    await answerOf(`mount ${target} '${json}'`),
    /idmap: .* no idmapped FUSE mounts.*Linux 6\.12.*hostUsers: true/
  )
  t.is(await node.shell('grep -cE " - fuse\\S* " /proc/self/mountinfo || true'), '0\n')
})

for (const [name, options] of [['FUSE', fuse], ['the kernel\'s client', kernel]] as const) {
  check(`the conformance kit passes in there, with ${name}`, async (t) => {
    t.timeout(kitMs)
    const { code, output } = await node.run(
      `/kit/node --no-warnings /kit/main.ts --driver ${driver} --folder /tmp/kit --crowd 4 --options '${JSON.stringify(options())}'`,
      kitMs
    )
    t.log(output.trimEnd())
    t.is(code, 0, output)
    t.regex(output, /[1-9]\d* passed, 0 failed/)
    t.is(await node.shell('grep -cE " - (nfs4?|fuse\\S*) " /proc/self/mountinfo || true'), '0\n')
    t.true(existsSync(path.join(server.folder, 'from-server')), 'nothing of the share was deleted')
  })
}
