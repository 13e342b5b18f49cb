/** Every script that can be run says what it does, needs and leaves when it is asked, and does nothing else. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, symlinkSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { findProgram } from '../../peers/needs.ts'

const root = path.resolve(import.meta.dirname, '../../..')
/** With these alone nothing can be installed, built, mounted or removed. */
const harmless = ['bash', 'dirname', 'env', 'sed']

const scripts = execFileSync('git', ['ls-files', '-s', 'scripts'], { cwd: root, encoding: 'utf8' }).split('\n')
  .filter((line) => line.startsWith('100755 ')).map((line) => line.split('\t')[1] ?? '')

const programs = mkdtempSync(path.join(os.tmpdir(), 'vb-help-'))
for (const name of harmless) symlinkSync(findProgram(name) ?? '', path.join(programs, name))
test.after.always(() => { rmSync(programs, { recursive: true }) })

test('the scripts that are looked at are all of them', (t) => {
  t.true(scripts.length >= 15)
  for (const name of [
    'test', 'demo', 'build', 'setup', 'cluster', 'image', 'bench', 'bench-nfs', 'bench-transport', 'checks/all',
    'container-test'
  ]) {
    t.true(scripts.includes(`scripts/${name}`), name)
  }
})

for (const script of scripts) {
  for (const flag of ['--help', '-h']) {
    test(`${script} ${flag} says what it does, what it needs and what it leaves, at once and without doing anything`, (t) => {
      const before = statSync(path.join(root, 'build')).mtimeMs
      const ran = spawnSync(path.join(root, script), [flag], {
        cwd: os.tmpdir(), env: { PATH: programs }, encoding: 'utf8', timeout: 60_000
      })
      t.is(ran.status, 0, `${ran.stderr}${ran.error?.message ?? ''}`)
      t.is(ran.stderr, '')
      t.regex(ran.stdout, /^Needs /m)
      t.regex(ran.stdout, /^Leaves /m)
      t.regex(ran.stdout.split('\n')[0] ?? '', /^[A-Z].{30,}/, 'a first line that says what it does')
      t.false(/^#|set -|shellcheck/m.test(ran.stdout), 'the text, not the source')
      t.is(statSync(path.join(root, 'build')).mtimeMs, before)
    })
  }
}
