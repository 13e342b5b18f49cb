/**
 * Whether idle CPUs may be kept awake, as the operator says it. Owns where that may be said: the Flex door has no
 * options of its own.
 */
import { VolumeError } from '../base/errors.ts'
import { cpuLatencyChoices, type CpuLatencyChoice } from '../host/cpu-latency.ts'

const variable = 'VOLBRIDGE_CPU_LATENCY'

/** The option, else the environment, else undefined. @throws VolumeError INVALID naming the variable. */
export function chooseCpuLatency (
  option: CpuLatencyChoice | undefined,
  environment: Readonly<Record<string, string | undefined>>
): CpuLatencyChoice | undefined {
  const told = environment[variable]
  if (option !== undefined || told === undefined || told === '') return option
  const choice = cpuLatencyChoices.find((known) => known === told)
  if (choice === undefined) {
    throw new VolumeError(
      'INVALID',
      `${variable}: ${JSON.stringify(told)} is not one of ${cpuLatencyChoices.join(', ')}`,
      { field: variable, remedy: 'give one of them, or leave it out' }
    )
  }
  return choice
}
