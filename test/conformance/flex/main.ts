/**
 * The kit as a program: `node test/conformance/flex/main.ts --driver PATH [--options JSON] [--failing JSON] [--folder
 * DIR] [--env JSON] [--crowd N] [--only TEXT]`.
 *
 * Owns arguments and output: a line a case, a count, exit code 1 when one failed. `--install COMMAND` runs by /bin/sh
 * with the plugin folder as $1.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { parseArgs, promisify } from 'node:util'
import { allCases, runCase, type KitOptions } from './kit.ts'
import type { Options } from './kubelet.ts'

const { values } = parseArgs({
  options: {
    driver: { type: 'string' }, options: { type: 'string' }, failing: { type: 'string' }, folder: { type: 'string' },
    env: { type: 'string' },
    install: { type: 'string' }, crowd: { type: 'string', default: '20' }, only: { type: 'string', default: '' }
  }
})
if (values.driver === undefined || !/^[^~/]+~[^~/]+$/.test(path.basename(path.dirname(path.resolve(values.driver))))) {
  console.error('flex conformance: give the driver with --driver …/vendor~driver/driver')
  process.exit(2)
}

const parsed = (text: string | undefined): Options | undefined =>
  text === undefined ? undefined : JSON.parse(text) as Options
const options = parsed(values.options)
const failing = parsed(values.failing)
const env = parsed(values.env)
const { install } = values
const kit: KitOptions = {
  driver: path.resolve(values.driver),
  crowd: Math.max(1, Number(values.crowd)),
  folder: values.folder ?? mkdtempSync(path.join(tmpdir(), 'flex-conformance-')),
  ...options === undefined ? {} : { options },
  ...failing === undefined ? {} : { failing },
  ...env === undefined ? {} : { env },
  ...install === undefined ? {} : {
    install: async (folder: string) => { await promisify(execFile)('/bin/sh', ['-c', install, 'install', folder]) }
  }
}

const counts = { passed: 0, failed: 0, skipped: 0 }
for (const each of allCases.filter(({ title }) => title.includes(values.only))) {
  const { title, verdict, reason, ms } = await runCase(each, kit)
  counts[verdict]++
  console.log(
    `${verdict.padEnd(7)} ${title}${verdict === 'passed' ? ` (${Math.round(ms)} ms)` : `\n        ${reason.replaceAll('\n', '\n        ')}`}`
  )
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
process.exitCode = counts.failed === 0 && counts.passed > 0 ? 0 : 1
