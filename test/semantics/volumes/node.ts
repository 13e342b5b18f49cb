/** A real engine in throw-away folders for tests with real mounts. Owns its folders and cleans up everything it
 * made. */
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAbsolutePath, toVolumeId, type AbsolutePath, type VolumeId } from '../../../agent/base/brands.ts'
import type { VolumeSpec } from '../../../agent/base/volume-spec.ts'
import { readMountinfoSync, type MountEntry } from '../../../agent/host/mountinfo.ts'
import { startEngine, type Engine } from '../../../agent/volumes/engine.ts'
import type { VolumeEvent } from '../../../agent/volumes/events.ts'
import { parseVolumeSpec } from '../../../agent/volumes/spec/spec.ts'
import { removeFolder } from '../../../scripts/testing/remove-folder.ts'

export class TestNode {
  readonly root = realpathSync(mkdtempSync(join(tmpdir(), 'volbridge-node-')))
  readonly events: VolumeEvent[] = []
  engine: Engine | undefined

  constructor () {
    for (const name of ['staging', 'pods']) mkdirSync(join(this.root, name))
  }

  async start (): Promise<Engine> {
    this.engine = await startEngine({
      stateDir: join(this.root, 'state'),
      runDir: join(this.root, 'run'),
      sessionCommand: {
        file: process.execPath, args: ['--no-warnings', fileURLToPath(new URL('stand-in-session.ts', import.meta.url))],
        files: [process.execPath, join(import.meta.dirname, '../../..')].map((what) => ({ kind: 'run', what }))
      },
      cgroup: false,
      events: (event) => { this.events.push(event) }
    })
    return this.engine
  }

  path (name: string): AbsolutePath {
    return parseAbsolutePath(join(this.root, name), 'test')
  }

  folder (name: string): AbsolutePath {
    mkdirSync(join(this.root, name), { recursive: true })
    return this.path(name)
  }

  /** Our mounts below the root, in mountinfo's order. */
  mounts (): readonly MountEntry[] {
    return readMountinfoSync().filter((mount) => mount.mountPoint.startsWith(`${this.root}/`))
  }

  /** Pids of the session processes of this node. */
  sessions (): readonly number[] {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`--socket\0${this.root}/`)
      } catch {
        return false
      }
    }).map(Number)
  }

  cleanUp (): void {
    for (const { mountPoint } of [...this.mounts()].reverse()) {
      try {
        execFileSync('umount', ['-l', mountPoint], { stdio: 'ignore' })
      } catch { /* Gone with the one above it. */ }
    }
    for (const pid of this.sessions()) {
      try { process.kill(pid, 'SIGKILL') } catch { /* Gone. */ }
    }
    this.engine?.close()
    removeFolder(this.root)
  }
}

export const volume = (id: string): VolumeId => toVolumeId(id)
export const specOf = (share = '/export', extra: Record<string, string> = {}): VolumeSpec =>
  parseVolumeSpec({ server: '127.0.0.1', share, ...extra })
