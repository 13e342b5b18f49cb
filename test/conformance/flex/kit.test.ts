/** The packed binary under the conformance kit, with a real NFS server; and the kit itself, on drivers that are wrong
 * on purpose. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, run, shell, TestNode } from '../../semantics/endtoend/node.ts'
import { allCases, runCase, type KitOptions } from './kit.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)

let server: Ganesha
let node: TestNode
let kit: KitOptions

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  const plugins = node.makeFolder('plugins')
  const install = async (folder: string): Promise<void> => {
    await shell(`${binary} flex-install --plugin-dir ${folder}`)
  }
  await install(plugins)
  const options = { server: server.host, share: server.folder, mountOptions: server.mountOptions }
  kit = {
    driver: path.join(plugins, 'volbridge.io~volbridge/volbridge'), folder: path.join(node.folder, 'kit'), options,
    install,
    failing: { ...options, share: '/not/exported' },
    env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime, PATH: '/usr/bin:/bin' }
  }
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

for (const each of allCases) {
  check(`the packed driver: ${each.title}`, async (t) => {
    const { verdict, reason } = await runCase(each, kit)
    t.is(verdict, 'passed', reason)
  })
}

check('after all cases no mount and no session is left', async (t) => {
  t.deepEqual(mountsBelow(node.folder), [])
  t.deepEqual((await processesOf(node.runtime)).filter((line) => line.includes(' session ')), [])
})

/** What each is wrong in, and the case that must say so. */
const wrongDrivers = {
  'prints a warning beside the JSON': [
    'echo warning >&2; echo \'{"status":"Success","capabilities":{}}\'', 'init is one JSON in an empty environment',
    /not one JSON/
  ],
  'states no capabilities': [
    'echo \'{"status":"Success"}\'', 'init succeeds and states all five', /capability attach is not stated/
  ],
  'exits 1 with its Failure': [
    'echo \'{"status":"Failure","message":"no"}\'; exit 1', 'options that cannot be', /exit code 1 makes kubelet log/
  ],
  'writes success in lower case': [
    'echo \'{"status":"success"}\'', 'unmount of what is not mounted', /kubelet knows no status "success"/
  ],
  'repeats the options in its message': [
    'printf \'{"status":"Failure","message":"bad: %s"}\' "$(echo "$3" | tr -d \'"\\\\\')"', 'options that cannot be',
    /holds the secret/
  ],
  'deletes what it finds': [
    'rm -rf "$2"/*; echo \'{"status":"Success"}\'', 'unmount of what is not mounted', /ENOENT|deleted data/
  ],
  'takes any target': ['echo \'{"status":"Success"}\'', 'a target that cannot be', /mount at a file: success/]
} as const satisfies Record<string, readonly [string, string, RegExp]>

for (const [what, [script, title, words]] of Object.entries(wrongDrivers)) {
  test.serial(`the kit refuses a driver that ${what}`, async (t) => {
    const folder = mkdtempSync(path.join(tmpdir(), 'flex-wrong-'))
    try {
      mkdirSync(path.join(folder, 'a~b'))
      const driver = path.join(folder, 'a~b/b')
      writeFileSync(driver, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
      const each = allCases.find((candidate) => candidate.title.startsWith(title))
      if (each === undefined) throw new Error(`no case ${title}`)
      const { verdict, reason } = await runCase(each, { driver, folder: path.join(folder, 'kit') })
      t.is(verdict, 'failed')
      t.regex(reason, words)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}

test.serial('the kit runs from a copy of its folder alone, and tells passed, failed and skipped apart', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'flex-copy-'))
  try {
    await shell(`cp -r ${import.meta.dirname} ${folder}/kit && rm ${folder}/kit/kit.test.ts && mkdir ${folder}/a~b`)
    writeFileSync(path.join(folder, 'a~b/b'), '#!/bin/sh\necho \'{"status":"Not supported"}\'\n', { mode: 0o755 })
    const ran = await run(process.execPath, [
      '--no-warnings', path.join(folder, 'kit/main.ts'), '--driver', path.join(folder, 'a~b/b'), '--folder',
      path.join(folder, 'run')
    ])
    t.is(ran.code, 1, ran.stderr)
    t.regex(
      ran.stdout,
      /^failed {2}init succeeds.*[^]*^skipped a pod's volume is mounted.*[^]*\d+ passed, \d+ failed, \d+ skipped\n$/m
    )
    t.is((await run(process.execPath, ['--no-warnings', path.join(folder, 'kit/main.ts')])).code, 2)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
