/**
 * What we ship runs on the oldest node we promise: no symbol of glibc or libstdc++ newer than the floor of
 * ARCHITECTURE.md. Owns the floor. Reads the version needs out of the ELF file with readelf; does not know how the file
 * was built.
 */
import { execFileSync } from 'node:child_process'
import process from 'node:process'

/** RHEL 8, Debian 10 and Ubuntu 20.04 have at least these. */
export const symbolFloor = { GLIBC: '2.28', GLIBCXX: '3.4.21', CXXABI: '1.3.11' } as const

const compareVersions = (a: string, b: string): number => {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number)) as [number[], number[]]
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** The newest version of each set of symbols that `readelf --version-info` says is needed. */
export function newestNeeds (versionInfo: string): Map<string, string> {
  const newest = new Map<string, string>()
  for (const [, set = '', version = ''] of versionInfo.matchAll(/Name: ([A-Z]+)_([0-9.]+)\b/g)) {
    const known = newest.get(set)
    if (known === undefined || compareVersions(version, known) > 0) newest.set(set, version)
  }
  return newest
}

export function symbolComplaints (file: string, versionInfo: string): string[] {
  return [...newestNeeds(versionInfo)].flatMap(([set, version]) => {
    const floor = (symbolFloor as Record<string, string>)[set]
    return floor === undefined || compareVersions(version, floor) <= 0
      ? []
      : [`${file} needs ${set}_${version}, the floor is ${set}_${floor}`]
  })
}

if (import.meta.main) {
  const files = process.argv.slice(2)
  const complaints = files.flatMap((file) => {
    const versionInfo = execFileSync('readelf', ['--version-info', '--wide', file], {
      encoding: 'utf8', maxBuffer: 64 * 1024 * 1024
    })
    console.log(`${file}: ${[...newestNeeds(versionInfo)].map(([set, version]) => `${set}_${version}`).join(' ')}`)
    return symbolComplaints(file, versionInfo)
  })
  for (const complaint of complaints) console.error(complaint)
  process.exitCode = complaints.length === 0 && files.length > 0 ? 0 : 1
}
