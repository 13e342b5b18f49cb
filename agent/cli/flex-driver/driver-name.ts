/**
 * `vendor/driver`, as a pod names it, and the names on disk that follow from it (k8s flexvolume/probe.go).
 *
 * Owns that translation and its refusals. Does not know where the folder lies.
 */
import { VolumeError } from '../../base/errors.ts'

export interface DriverName {
  /** What `flexVolume.driver` says. */
  readonly name: string
  /** kubelet's folder of it. */
  readonly folder: string
  /** The executable in that folder. */
  readonly file: string
}

export const defaultDriver = 'volbridge.io/volbridge'

/** The driver beside another, for `client=kernel`: it has told kubelet not to ask for statistics
 * (flex/personality.ts). */
export const kernelDriverOf = (name: string): string => name.endsWith('-kernel') ? name : `${name}-kernel`

const part = '[A-Za-z0-9](?:[-._A-Za-z0-9]{0,61}[A-Za-z0-9])?'
const form = new RegExp(`^(${part})/(${part})$`)

/** @throws VolumeError INVALID naming the option. */
export function parseFlexDriverName (text: string): DriverName {
  const [, vendor, driver] = form.exec(text) ?? []
  if (vendor === undefined || driver === undefined) {
    // A driver without a vendor is possible for kubelet, but its folder could not be told from any other by its name.
    throw new VolumeError('INVALID', `--driver: ${JSON.stringify(text.slice(0, 200))} is not "vendor/driver"`, {
      field: '--driver', remedy: 'use letters, digits, "-", "_" and ".", for instance volbridge.io/volbridge'
    })
  }
  return { name: `${vendor}/${driver}`, folder: `${vendor}~${driver}`, file: driver }
}
