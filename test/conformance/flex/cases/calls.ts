/**
 * Calls that need no share: what is answered, whatever is asked, in whatever environment.
 */
import { mkdirSync, readFileSync, rmdirSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import {
  require,
  requireBare,
  requireFailure,
  requireMannered,
  requireSuccess,
  type Bench,
  type Case
} from '../judge.ts'

const capabilityNames = ['attach', 'selinuxRelabel', 'supportsMetrics', 'fsGroup', 'requiresFSResize']

const environments: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'an empty environment': {},
  'an empty PATH and HOME': { PATH: '', HOME: '' },
  'a hostile NODE_OPTIONS': { NODE_OPTIONS: '--require /nowhere --inspect' },
  'a debugger\'s environment': {
    NODE_DEBUG: 'fs,net,module', GRPC_TRACE: 'all', GRPC_VERBOSITY: 'DEBUG', DEBUG: '*', PYTHONVERBOSE: '1',
    GODEBUG: 'gctrace=1'
  },
  'certificates and configuration that are not there': {
    NODE_EXTRA_CA_CERTS: '/nowhere', OPENSSL_CONF: '/nowhere', SSL_CERT_FILE: '/nowhere'
  },
  'an unknown locale': { LANG: 'xx_XX.UTF-8', LC_ALL: 'xx_XX.UTF-8' },
  'a proxy': { http_proxy: 'http://127.0.0.1:1', https_proxy: 'http://127.0.0.1:1', HTTP_PROXY: 'http://127.0.0.1:1' }
}

/** With `attach: false` kubelet makes none of these, but a controller may. */
const optionalCalls: readonly (readonly string[])[] = [
  ['getvolumename', '{}'], ['attach', '{}', 'node'], ['waitforattach', '/dev/null', '{}'], ['isattached', '{}', 'node'],
  ['mountdevice', '/nowhere', '/dev/null', '{}'],
  ['unmountdevice', '/nowhere'], ['detach', 'volume', 'node'], ['expandvolume', '{}', '/dev/null', '2', '1'],
  ['expandfs', '{}', '/dev/null', '/nowhere', '2', '1']
]

const canary = 'Y2FuYXJ5LXZhbHVl-not-base64'

const badOptions: Readonly<Record<string, readonly string[]>> = {
  'no options': [],
  'an empty text': [''],
  'a cut-off object': ['{"server":"x"'],
  'an array': ['[]'],
  'null': ['null'],
  'a number': ['17'],
  'a number as a value': ['{"server": 5}'],
  'an object as a value': ['{"server": {}}'],
  'an empty object': ['{}'],
  'two objects': ['{}{}'],
  'control characters': ['{"server":"\\u0000\\u001b[31m","share":"/\\u0007"}'],
  'a prototype': ['{"__proto__":"x","constructor":"y"}'],
  'a secret that is not base64': [
    JSON.stringify({ server: '127.0.0.1', share: '/x', 'kubernetes.io/secret/token': canary })
  ],
  'a forged access mode': [JSON.stringify({ server: '127.0.0.1', share: '/x', 'kubernetes.io/readwrite': 'maybe' })],
  '120 KiB of options': [JSON.stringify({ server: '127.0.0.1', share: '/x', filler: 'x'.repeat(120 * 1024) })]
}

async function refuseOptions ({ plugin, scratch }: Bench): Promise<void> {
  const target = path.join(scratch, 'bad-options')
  mkdirSync(target)
  for (const [what, args] of Object.entries(badOptions)) {
    const outcome = await plugin.run('mount', [target, ...args])
    requireFailure(outcome, what)
    require(
      !outcome.output.includes(canary),
      `${what}: the message holds the secret's text, and kubelet puts messages into events`
    )
    requireBare(target, what)
  }
  rmdirSync(target)
}

async function refuseTargets ({ plugin, scratch }: Bench): Promise<void> {
  const file = path.join(scratch, 'a-file')
  const link = path.join(scratch, 'a-link')
  const folder = path.join(scratch, 'a-folder')
  writeFileSync(file, 'mine')
  mkdirSync(folder)
  symlinkSync(folder, link)
  const options = JSON.stringify({ server: '127.0.0.1', share: '/x', mountOptions: 'soft,port=1,mountport=1' })
  for (const [what, target] of Object.entries({
    'a file': file, 'a symbolic link': link, 'the root folder': '/', 'a relative path': 'a/b', 'an empty path': '',
    'a path with ..': `${scratch}/x/../a-folder`
  })) {
    requireFailure(await plugin.run('mount', [target, options]), `mount at ${what}`)
  }
  for (const target of ['/', '', 'a/b']) {
    requireFailure(await plugin.run('unmount', [target]), `unmount of ${JSON.stringify(target)}`)
  }
  requireFailure(await plugin.run('unmount', []), 'unmount without a path')
  require(readFileSync(file, 'utf8') === 'mine', 'the file at the target was changed')
  requireBare(folder, 'mount at a link to it')
  unlinkSync(link)
  unlinkSync(file)
  rmdirSync(folder)
}

/** A pod that wrote to a folder where nothing was mounted: kubelet asks to unmount, and the data is the user's. */
async function keepFiles ({ plugin, scratch }: Bench): Promise<void> {
  const target = path.join(scratch, 'never-mounted')
  mkdirSync(path.join(target, 'deep'), { recursive: true })
  writeFileSync(path.join(target, 'deep/file'), 'mine')
  requireMannered(await plugin.run('unmount', [target]), 'unmount of a folder with files')
  require(readFileSync(path.join(target, 'deep/file'), 'utf8') === 'mine', 'unmount deleted data')
  unlinkSync(path.join(target, 'deep/file'))
  rmdirSync(path.join(target, 'deep'))
  rmdirSync(target)
  for (const missing of [target, path.join(target, 'deeper')]) {
    requireSuccess(await plugin.run('unmount', [missing]), 'unmount of what is not there')
  }
}

export const cases: readonly Case[] = [
  {
    title: 'init succeeds and states all five capabilities as booleans',
    needs: [],
    run: async ({ plugin }) => {
      const outcome = await plugin.init()
      requireSuccess(outcome, 'init')
      for (const name of capabilityNames) {
        require(
          typeof outcome.answer?.capabilities?.[name] === 'boolean',
          `capability ${name} is not stated: kubelet's own default would count`
        )
      }
    }
  },
  ...Object.entries(environments).map(([what, env]): Case => ({
    title: `init is one JSON in ${what}`,
    needs: [],
    run: async ({ plugin }) => { requireSuccess(await plugin.run('init', [], { env }), 'init') }
  })),
  {
    title:
      'a call that the driver does not have is "Not supported", is not made again, and is made again after a probe',
    needs: [],
    run: async ({ plugin }) => {
      for (const command of ['frobnicate', 'constructor', '--help', '']) {
        const outcome = await plugin.run(command, [])
        requireMannered(outcome, `call ${JSON.stringify(command)}`)
      }
      require((await plugin.run('frobnicate', [])).exitCode === null, 'kubelet would have called again')
      await plugin.init()
      require(
        (await plugin.run('frobnicate', [])).kind === 'unsupported',
        'after a probe the call is not "Not supported"'
      )
      require(
        !plugin.isUnsupported('mount') && !plugin.isUnsupported('unmount'),
        'mount or unmount are remembered as not supported'
      )
    }
  },
  {
    title: 'every call that kubelet has beside init, mount and unmount gets one JSON and exit code 0',
    needs: [],
    run: async ({ plugin }) => {
      for (const [command = '', ...args] of optionalCalls) requireMannered(await plugin.run(command, args), command)
    }
  },
  {
    title: 'options that cannot be are refused with a message, without the secret in it, and leave the folder bare',
    needs: [], run: refuseOptions
  },
  { title: 'a target that cannot be is refused and left as it was', needs: [], run: refuseTargets },
  { title: 'unmount of what is not mounted or not there succeeds and deletes nothing', needs: [], run: keepFiles }
]
