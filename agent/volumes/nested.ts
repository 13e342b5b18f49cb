/**
 * Volumes of this node that lie within another one. Owns how that shows in their specs. Does not know what other nodes
 * mount, nor names of one server that share no spelling.
 */
import { toFileName, type FileName } from '../base/brands.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'

function pathOf ({ target: { share, subDir } }: VolumeSpec): readonly FileName[] {
  const names = share.split('/').filter((name) => name !== '')
  return [...names.map((name) => toFileName(Buffer.from(name, 'utf8').toString('latin1'))), ...subDir]
}

/** The folders within `spec` that other volumes show, as ways down from its root. */
export function nestedIn (spec: VolumeSpec, others: Iterable<VolumeSpec>): readonly (readonly FileName[])[] {
  const path = pathOf(spec)
  const servers = new Set(spec.target.servers)
  const found = new Map<string, readonly FileName[]>()
  for (const other of others) {
    const otherPath = pathOf(other)
    const isWithin = otherPath.length > path.length && path.every((name, index) => otherPath[index] === name)
    if (!isWithin || !other.target.servers.some((name) => servers.has(name))) continue
    const beneath = otherPath.slice(path.length)
    found.set(beneath.join('/'), beneath)
  }
  return [...found.values()]
}
