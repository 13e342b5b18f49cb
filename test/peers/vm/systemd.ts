/**
 * systemd as process 1 of a guest: the host's own program, and two units instead of Debian's hundreds.
 * Owns which files those are. Does not know the units of a test, nor what is shown with them.
 */
import path from 'node:path'
import { systemdPrograms } from '../needs.ts'

const units = ['default.target', 'line.service'] as const

/** To be added to an image's files. No udev, no D-Bus and no journal: `systemctl` reaches process 1 through
 * /run/systemd/private. */
export function systemdFiles (): Record<string, string> {
  return Object.fromEntries([
    ...systemdPrograms.map((file) => [file, file] as const),
    ...units.map((name) => [`/etc/systemd/system/${name}`, path.join(import.meta.dirname, 'systemd', name)] as const)
  ])
}
