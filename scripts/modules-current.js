// Is node_modules what package-lock.json asks for? Exit code 0 when it is.
// Plain JavaScript for any Node since 20: it runs before the project's own Node is there. npm writes its own record of what it
// installed last, when everything else is in place; an interrupted installation therefore counts as none.
import { existsSync, readFileSync } from 'node:fs'
import process from 'node:process'

const packagesOf = (file) => existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).packages : {}
const wanted = packagesOf('package-lock.json')
const installed = packagesOf('node_modules/.package-lock.json')

// What is for another operating system or processor is in the lockfile and rightly not installed.
const isForeign = ({ os, cpu, optional }) => optional === true &&
  ((os !== undefined && !os.includes(process.platform)) || (cpu !== undefined && !cpu.includes(process.arch)))

const wrong = Object.entries(wanted).filter(([folder, { version, integrity, ...facts }]) => folder !== '' && !isForeign(facts) &&
  (installed[folder]?.version !== version || installed[folder]?.integrity !== integrity))
const surplus = Object.keys(installed).filter((folder) => wanted[folder] === undefined)
process.exit(wrong.length === 0 && surplus.length === 0 && Object.keys(installed).length > 0 ? 0 : 1)
