// The packed binary where kubelet runs it: in an environment that is not ours. One JSON on stdout and stderr together,
// exit code 0.
import { execFileSync, spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'

const binary = path.resolve('dist/volbridge')

test.before('the binary has been built', (t) => { t.true(existsSync(binary), 'run scripts/build') })

function flexInit (env: Record<string, string>, file = binary, args = ['flex', 'init']): SpawnSyncReturns<string> {
  return spawnSync(file, args, { env, encoding: 'utf8', cwd: '/' })
}

const capabilities = {
  attach: false, selinuxRelabel: false, supportsMetrics: true, fsGroup: false, requiresFSResize: false
}

for (const [what, env] of Object.entries({
  'an empty environment': {},
  'NODE_OPTIONS=--bogus': { NODE_OPTIONS: '--bogus' },
  'NODE_OPTIONS=--inspect': { NODE_OPTIONS: '--inspect' },
  'NODE_OPTIONS=--require /none': { NODE_OPTIONS: '--require /none' },
  'NODE_OPTIONS with a tiny heap': { NODE_OPTIONS: '--max-old-space-size=1 --stack-size=1' },
  'no HOME and an empty PATH': { PATH: '', HOME: '' },
  'a HOME that is not there': { HOME: '/nowhere', XDG_CACHE_HOME: '/nowhere', PKG_NATIVE_CACHE_PATH: '/nowhere' },
  'NODE_EXTRA_CA_CERTS that is not there': { NODE_EXTRA_CA_CERTS: '/nowhere' },
  'OPENSSL_CONF that is no configuration': { OPENSSL_CONF: '/etc/passwd' },
  'NODE_DEBUG': { NODE_DEBUG: 'module,fs,net' },
  'NODE_PENDING_DEPRECATION and NODE_TLS_REJECT_UNAUTHORIZED': {
    NODE_PENDING_DEPRECATION: '1', NODE_TLS_REJECT_UNAUTHORIZED: '0'
  },
  'a locale that is not there': { LANG: 'xx_XX.UTF-8', LC_ALL: 'xx_XX.UTF-8' },
  'NODE_ICU_DATA that is not there': { NODE_ICU_DATA: '/nowhere' }
})) {
  test(`flex init answers one JSON with ${what}`, (t) => {
    const { status, stdout, stderr } = flexInit(env as Record<string, string>)
    t.is(status, 0, stderr)
    t.deepEqual(JSON.parse(stdout + stderr), { status: 'Success', capabilities })
  })
}

test('in a vendor~driver folder the name of the binary makes it the driver', (t) => {
  const plugins = mkdtempSync(path.join(path.dirname(binary), 'plugins-'))
  try {
    const folder = path.join(plugins, 'volbridge.io~volbridge')
    mkdirSync(folder)
    linkSync(binary, path.join(folder, 'volbridge'))
    const { status, stdout, stderr } = flexInit({}, path.join(folder, 'volbridge'), ['init'])
    t.is(status, 0)
    t.deepEqual(JSON.parse(stdout + stderr), { status: 'Success', capabilities })
    t.deepEqual(readdirSync(folder), ['volbridge'], 'nothing is unpacked into the plugin folder')
  } finally {
    rmSync(plugins, { recursive: true })
  }
})

test('flex init unpacks no addon and leaves nothing in temporary folders', (t) => {
  const home = mkdtempSync(path.join(tmpdir(), 'volbridge-home-'))
  try {
    t.is(flexInit({ HOME: home, TMPDIR: home }).status, 0)
    t.deepEqual(readdirSync(home), [])
  } finally {
    rmSync(home, { recursive: true })
  }
})

test('flex init answers with hardly a descriptor left to open', (t) => {
  const limited = spawnSync('/bin/sh', ['-c', `ulimit -n 24; exec ${binary} flex init`], { env: {}, encoding: 'utf8' })
  t.deepEqual(JSON.parse(limited.stdout + limited.stderr), { status: 'Success', capabilities })
})

test('neither binary nor addon needs newer libraries than the floor', (t) => {
  t.notThrows(() =>
    execFileSync(process.execPath, [
      '--no-warnings', 'scripts/checks/symbols.ts', binary, 'build/Release/volbridge.node'
    ], { encoding: 'utf8' })
  )
})

test('the licences of everything bundled lie beside the binary', (t) => {
  const text = execFileSync('cat', [path.join(path.dirname(binary), 'THIRD-PARTY-LICENCES')], { encoding: 'utf8' })
  for (const name of ['@grpc/grpc-js', '@grpc/proto-loader', 'pino', 'prom-client', 'commander']) {
    t.regex(text, new RegExp(`^${name} \\d+\\.\\d+\\.\\d+ \\(`, 'm'))
  }
})
