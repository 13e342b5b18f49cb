/**
 * dist/: the bundle, the executable and the licences of what is inside.
 *
 * Owns the order of the steps and the stamp that makes a second run do nothing. The stamp is the hash of what went in,
 * not a time: a checkout or a copy of the folder changes times, and only content may decide. Does not know how the
 * addon is built.
 */
import { createHash } from 'node:crypto'
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { bundle } from './bundle.ts'
import { packExecutable } from './executable.ts'

const root = path.resolve(import.meta.dirname, '../..')
const at = (name: string): string => path.join(root, name)
const stampFile = at('dist/.stamp')
const sources = ['agent/**/*.ts', 'flex/**/*.ts', 'proto/**/*.ts', 'scripts/pack/*.ts']

function hashOfInputs (): string {
  const hash = createHash('sha256')
  const files = [
    ...globSync(sources, { cwd: root }).sort(), 'package.json', 'package-lock.json', 'build/Release/volbridge.node'
  ]
  for (const file of files) {
    hash.update(file).update('\0').update(createHash('sha256').update(readFileSync(at(file))).digest())
  }
  return hash.digest('hex')
}

const stamp = hashOfInputs()
if (existsSync(at('dist/volbridge')) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) {
  console.error('dist/volbridge is up to date')
  process.exit(0)
}

mkdirSync(at('dist'), { recursive: true })
rmSync(stampFile, { force: true })
await bundle({
  root, entry: 'agent/main.ts', output: at('dist/volbridge.cjs'), licences: at('dist/THIRD-PARTY-LICENCES')
})
await packExecutable({
  bundle: at('dist/volbridge.cjs'),
  addon: at('build/Release/volbridge.node'),
  node: process.execPath,
  nodeVersion: process.versions.node,
  arch: process.arch,
  output: at('dist/volbridge.new'),
  work: at('build')
})
// Renamed into place: a running agent keeps the file it was started from, and a half-written one is never there under
// this name.
renameSync(at('dist/volbridge.new'), at('dist/volbridge'))
writeFileSync(stampFile, stamp)
