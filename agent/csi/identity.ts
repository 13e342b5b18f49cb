/**
 * The CSI Identity service.
 *
 * Owns the answers about the plugin itself. Does not know volumes.
 */
import type { Implementation } from './unary.ts'

export interface IdentityOptions {
  readonly driverName: string
  readonly version: string
  /** Whether the engine has found its volumes again and takes calls. */
  readonly isReady: () => boolean
}

export function identityService ({ driverName, version, isReady }: IdentityOptions): Implementation<'Identity'> {
  return {
    GetPluginInfo: () => ({ name: driverName, vendorVersion: version, manifest: {} }),
    // A node plugin alone: no controller service, no topology.
    GetPluginCapabilities: () => ({ capabilities: [] }),
    Probe: () => ({ ready: { value: isReady() } })
  }
}
