/**
 * Bad input at every door of the packed binary: an answer that names field, value and remedy, and nothing mounted or
 * made.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import path from 'node:path'
import { status } from '@grpc/grpc-js'
import test from 'ava'
import { CallError } from '../../../proto/csi/client.ts'
import { Ganesha, freePort } from '../../peers/ganesha.ts'
import { flexCall, Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, run, shell, TestNode } from './node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let flex: FlexDriver
let good: Record<string, string>

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha') !== undefined) return
  server = await Ganesha.start()
  mkdirSync(path.join(server.folder, 'folder'))
  writeFileSync(path.join(server.folder, 'file'), '')
  symlinkSync('/etc', path.join(server.folder, 'out'))
  node = new TestNode()
  await node.startAgent()
  kubelet = new Kubelet(node.kubelet)
  const folder = node.makeFolder('plugins/volbridge.io~volbridge')
  copyFileSync(binary, path.join(folder, 'volbridge'))
  flex = {
    file: path.join(folder, 'volbridge'), env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
  }
  good = { server: server.host, share: server.folder, mountOptions: server.mountOptions }
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

interface Bad {
  readonly what: string
  readonly change: (good: Record<string, string>) => Record<string, string>
  readonly code: number
  readonly says: RegExp
}

const hasKernelNfs = existsSync('/sys/module/nfs') || existsSync(`/lib/modules/${release()}`)

const without = (from: Record<string, string>, key: string): Record<string, string> =>
  Object.fromEntries(Object.entries(from).filter(([name]) => name !== key))

const bad: readonly Bad[] = [
  { what: 'no server', change: (g) => without(g, 'server'), code: status.INVALID_ARGUMENT, says: /server/ },
  { what: 'no share', change: (g) => without(g, 'share'), code: status.INVALID_ARGUMENT, says: /share/ },
  {
    what: 'an unknown attribute', change: (g) => ({ ...g, sevrer: 'x' }), code: status.INVALID_ARGUMENT,
    says: /sevrer.*server/s
  },
  {
    what: 'a server name that is none', change: (g) => ({ ...g, server: 'not a name!' }), code: status.INVALID_ARGUMENT,
    says: /server.*not a name!/s
  },
  {
    what: 'a server name that nobody knows', change: (g) => ({ ...g, server: 'no-such-host.invalid' }),
    code: status.UNAVAILABLE, says: /no-such-host\.invalid/
  },
  {
    what: 'an export that does not exist', change: (g) => ({ ...g, share: '/no/such/export' }), code: status.NOT_FOUND,
    says: /\/no\/such\/export/
  },
  {
    what: 'a share that is not absolute', change: (g) => ({ ...g, share: 'relative' }), code: status.INVALID_ARGUMENT,
    says: /share.*relative/s
  },
  {
    what: 'a subDir that climbs out', change: (g) => ({ ...g, subDir: '../../etc' }), code: status.INVALID_ARGUMENT,
    says: /subDir/
  },
  {
    what: 'a subDir that climbs out in the middle', change: (g) => ({ ...g, subDir: 'folder/../../x' }),
    code: status.INVALID_ARGUMENT, says: /subDir/
  },
  {
    what: 'a subDir that does not exist', change: (g) => ({ ...g, subDir: 'missing' }), code: status.NOT_FOUND,
    says: /subDir.*missing|missing.*subDir/s
  },
  {
    what: 'a subDir that is a file', change: (g) => ({ ...g, subDir: 'file' }), code: status.INVALID_ARGUMENT,
    says: /file/
  },
  {
    what: 'a subDir that is a symbolic link', change: (g) => ({ ...g, subDir: 'out' }), code: status.INVALID_ARGUMENT,
    says: /out/
  },
  {
    what: 'an option twice with two values',
    change: (g) => ({ ...g, mountOptions: `${g['mountOptions'] ?? ''},rsize=4096,rsize=8192` }),
    code: status.INVALID_ARGUMENT, says: /rsize/
  },
  {
    what: 'hard and soft', change: (g) => ({ ...g, mountOptions: `${g['mountOptions'] ?? ''},hard,soft` }),
    code: status.INVALID_ARGUMENT, says: /hard.*soft|soft.*hard/s
  },
  {
    what: 'an unknown mount option', change: (g) => ({ ...g, mountOptions: 'frobnicate' }),
    code: status.INVALID_ARGUMENT, says: /frobnicate/
  },
  {
    what: 'Kerberos', change: (g) => ({ ...g, mountOptions: 'sec=krb5p' }), code: status.INVALID_ARGUMENT,
    says: /krb5p/
  },
  /* Skipped where there is one: it then asks the server. Soft, because Flex refuses hard before it looks at the
   * kernel. */
  ...hasKernelNfs
    ? []
    : [{
      what: 'the kernel\'s client on a kernel that has none',
      change: (g: Record<string, string>) => ({
        ...g, client: 'kernel', mountOptions: `${g['mountOptions'] ?? ''},soft`
      }),
      code: status.FAILED_PRECONDITION, says: /client: this kernel has no NFS client; use client=fuse/
    }],
  {
    what: 'NFSv4 with the own client', change: (g) => ({ ...g, client: 'fuse', mountOptions: 'vers=4.1' }),
    code: status.INVALID_ARGUMENT, says: /4\.1/
  },
  {
    what: 'permissions that are not octal', change: (g) => ({ ...g, mountPermissions: '0999' }),
    code: status.INVALID_ARGUMENT, says: /mountPermissions.*0999/s
  },
  {
    what: 'an unknown type', change: (g) => ({ ...g, type: 'smb' }), code: status.INVALID_ARGUMENT, says: /type.*smb/s
  },
  {
    what: 'an unknown consistency', change: (g) => ({ ...g, consistency: 'loose' }), code: status.INVALID_ARGUMENT,
    says: /consistency.*loose/s
  }
]

for (const { what, change, code, says } of bad) {
  check(`${what}: CSI answers the right code, Flex one Failure, and neither leaves anything`, async (t) => {
    const attributes = change(good)
    const error = await t.throwsAsync(async () => {
      await kubelet.stage(node.csiSocket, 'csi.volbridge.io', { handle: 'bad', attributes })
    }, { instanceOf: CallError })
    t.is(error?.code, code, error?.details)
    t.regex(error?.details ?? '', says)
    t.deepEqual(readdirSync(kubelet.stagingPath('csi.volbridge.io', 'bad')), [])
    const flexTarget = kubelet.flexTarget('bad', 'volbridge.io/volbridge', 'v')
    mkdirSync(flexTarget, { recursive: true })
    const result = await flexCall(flex, ['mount', flexTarget, JSON.stringify(attributes)])
    t.is(result.exitCode, 0)
    t.is(result.answer.status, 'Failure')
    t.regex(result.answer.message ?? '', says)
    t.deepEqual(readdirSync(flexTarget), [])
    t.deepEqual(mountsBelow(node.folder), [])
  })
}

check('a server that is down at mount: UNAVAILABLE, with the address', async (t) => {
  const port = await freePort()
  const attributes = { ...good, mountOptions: `port=${port},mountport=${port}` }
  const error = await t.throwsAsync(async () => {
    await kubelet.stage(node.csiSocket, 'csi.volbridge.io', { handle: 'down', attributes })
  }, { instanceOf: CallError })
  t.is(error?.code, status.UNAVAILABLE, error?.details)
  t.regex(error?.details ?? '', new RegExp(`127.0.0.1.*${port}`, 's'))
  t.deepEqual(mountsBelow(node.folder), [])
})

check('an export that refuses this client is PERMISSION_DENIED or NOT_FOUND, by name', async (t) => {
  const closed = await Ganesha.start({ accessType: 'NONE' })
  try {
    const attributes = { server: closed.host, share: closed.folder, mountOptions: closed.mountOptions }
    const error = await t.throwsAsync(async () => {
      await kubelet.stage(node.csiSocket, 'csi.volbridge.io', { handle: 'closed', attributes })
    }, { instanceOf: CallError })
    t.true(
      error?.code === status.PERMISSION_DENIED || error?.code === status.NOT_FOUND,
      `${error?.code ?? ''} ${error?.details ?? ''}`
    )
    t.true(error?.details.includes(closed.folder))
  } finally {
    await closed.close()
  }
})

check('mount by hand refuses a target that is a file, not empty, a symlink or already a mount, and says what to do', async (t) => {
  const source = `${server.host}:${server.folder}`
  const file = path.join(node.folder, 'a-file')
  writeFileSync(file, '')
  const full = node.makeFolder('full')
  writeFileSync(path.join(full, 'x'), '')
  const link = path.join(node.folder, 'a-link')
  symlinkSync(node.makeFolder('linked'), link)
  const foreign = node.makeFolder('foreign')
  await shell(`mount -t tmpfs none ${foreign}`)
  try {
    for (const target of [file, full, link, foreign, path.join(node.folder, 'absent'), 'relative/../../x']) {
      const ran = await node.command(['mount', source, target, '-o', server.mountOptions, ...node.places])
      t.is(ran.code === 0, false, target)
      t.true(ran.stderr.includes(path.basename(target)), `${target}: ${ran.stderr}`)
    }
    t.is(mountsBelow(node.folder).filter((entry) => !entry.point.startsWith(foreign)).length, 0)
  } finally {
    await shell(`umount ${foreign}`)
  }
})

check('wrong usage of the command line is exit code 2 with a hint', async (t) => {
  for (const args of [['mount'], ['mount', 'x'], ['frobnicate'], ['mount', '--bogus', 'a:/b', '/c'], [
    'status', 'extra'
  ]]) {
    const ran = await node.command(args)
    t.is(ran.code, 2, args.join(' '))
    t.true(ran.stderr.length > 10, args.join(' '))
  }
})

const flexGarbage: readonly (readonly string[])[] = [
  [], ['mount'], ['mount', '/x'], ['mount', '/x', 'not json'], ['mount', '/x', '[]'], ['mount', '/x', '"text"'],
  ['mount', '/x', 'null'], ['mount', '/x', '{"server":7}'],
  ['unmount'], ['mount', '/', '{}'], ['mount', 'relative', '{}'], ['mount', '/x', '{}', 'more']
]
check('Flex calls with wrong arguments are one JSON Failure and exit 0', async (t) => {
  for (const args of flexGarbage) {
    const result = await flexCall(flex, args)
    t.is(result.exitCode, 0, args.join(' '))
    t.is(result.answer.status, 'Failure', args.join(' '))
    t.true((result.answer.message ?? '').length > 10)
  }
  for (const call of [
    'attach', 'detach', 'waitforattach', 'isattached', 'mountdevice', 'unmountdevice', 'getvolumename', 'expandvolume',
    'expandfs', 'whatever'
  ]) {
    t.is((await flexCall(flex, [call, '{}'])).answer.status, 'Not supported', call)
  }
})

check('hostile environments change nothing: one JSON from init, and a mount that works', async (t) => {
  const target = kubelet.flexTarget('env', 'volbridge.io/volbridge', 'v')
  const places = flex.env ?? {}
  for (const env of [
    { NODE_OPTIONS: '--bogus' }, { NODE_OPTIONS: '--inspect' }, { NODE_OPTIONS: '--require /none' }, { PATH: '' },
    { NODE_DEBUG: 'http,net,fs' },
    { NODE_V8_COVERAGE: node.makeFolder('coverage') }, { NODE_EXTRA_CA_CERTS: '/none' }, { HOME: '/nonexistent' },
    { LD_LIBRARY_PATH: '/nonexistent' }, {}
  ] as readonly Record<string, string>[]) {
    const result = await flexCall({ ...flex, env: { ...places, ...env } }, ['init'])
    t.is(result.exitCode, 0, JSON.stringify(env))
    t.deepEqual(result.answer, {
      status: 'Success',
      capabilities: {
        attach: false, selinuxRelabel: false, supportsMetrics: true, fsGroup: false, requiresFSResize: false
      }
    })
    mkdirSync(target, { recursive: true })
    const mounted = await flexCall({ ...flex, env: { ...places, ...env } }, ['mount', target, JSON.stringify(good)])
    t.is(mounted.answer.status, 'Success', `${JSON.stringify(env)} ${mounted.answer.message ?? ''}`)
    t.is((await flexCall({ ...flex, env: { ...places, ...env } }, ['unmount', target])).answer.status, 'Success')
  }
})

check('folders mounted noexec do not keep the packed binary from loading its addon', async (t) => {
  const strict = new TestNode()
  const target = strict.makeFolder('mnt')
  for (const folder of [strict.makeFolder('state'), strict.makeFolder('run')]) {
    await shell(`mount -t tmpfs -o noexec,mode=700 none ${folder}`)
  }
  try {
    await strict.mount(`${server.host}:${server.folder}`, target, server.mountOptions)
    t.deepEqual(readdirSync(target).sort(), readdirSync(server.folder).sort())
    t.is((await strict.unmount(target)).code, 0)
  } finally {
    await strict.close()
  }
})

check('of two Flex mounts of one folder at once none fails silently, and one mount is there', async (t) => {
  const target = kubelet.flexTarget('twins', 'volbridge.io/volbridge', 'v')
  mkdirSync(target, { recursive: true })
  const results = await Promise.all(
    Array.from({ length: 4 }, async () =>
      await flexCall(flex, [
        'mount', target, JSON.stringify({ ...good, mountOptions: `${server.mountOptions},rsize=131072` })
      ]))
  )
  t.true(results.some((result) => result.answer.status === 'Success'))
  for (const { answer, exitCode } of results) {
    t.is(exitCode, 0)
    if (answer.status === 'Success') continue
    t.is(answer.status, 'Failure')
    t.regex(answer.message ?? '', /another call is working on/)
  }
  t.is(mountsBelow(target).length, 1)
  t.is((await flexCall(flex, ['unmount', target])).answer.status, 'Success')
  t.is(mountsBelow(target).length, 0)
})

check('without root the answer says so and nothing is made', async (t) => {
  const ran = await run('setpriv', [
    '--reuid', '65534', '--regid', '65534', '--clear-groups', binary, 'mount', `${server.host}:${server.folder}`,
    '/mnt', '-o', server.mountOptions, '--state-dir', '/tmp/volbridge-nobody', '--run-dir', '/tmp/volbridge-nobody'
  ], { cwd: '/' })
  t.is(ran.code, 1)
  t.regex(ran.stderr, /root/)
  t.false(existsSync('/tmp/volbridge-nobody'))
})

check('without /dev/fuse the answer names it', async (t) => {
  const target = node.makeFolder('nofuse')
  const ran = await run('unshare', [
    '-m', '/bin/sh', '-c',
    `mount -t tmpfs none /dev && exec ${binary} mount --foreground ${server.host}:${server.folder} ${target} -o ${server.mountOptions} --state-dir ${node.folder}/s2 --run-dir ${node.folder}/r2`
  ])
  t.is(ran.code, 1, ran.stdout)
  t.regex(ran.stderr, /\/dev\/fuse/)
})
