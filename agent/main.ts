#!/usr/bin/env node
/**
 * The role switch: which of the binary's programs this process is.
 *
 * Owns that choice and nothing else. Every role is loaded only when it is the one, because a Flex `init` must be over
 * in milliseconds and a session must stay small.
 */
import { isFlexDriver, isKernelDriver } from '../flex/personality.ts'

/**
 * kubelet hands secrets over as arguments, which every process of the node can read in /proc/PID/cmdline. The arguments
 * have been copied; libuv writes the title over all of their bytes and fills what is left with zeros
 * (uv_set_process_title).
 */
function hideArguments (): void {
  process.title = 'volbridge flex'
}

async function start (args: readonly string[]): Promise<void> {
  // argv[0] keeps the name the process was started by; execPath has symbolic links resolved. Either may be the plugin
  // folder's.
  const driver = [process.argv0, process.execPath].find((executable) => isFlexDriver(executable, args))
  if (driver !== undefined || args[0] === 'flex') {
    hideArguments()
    const { runFlex } = await import('./roles/flex.ts')
    runFlex(
      driver === undefined ? args.slice(1) : args,
      driver !== undefined && isKernelDriver(driver) ? 'kernel' : 'general'
    )
  } else if (args[0] === 'session') {
    const { runSessionRole } = await import('./roles/session.ts')
    process.exitCode = await runSessionRole(args.slice(1))
  } else {
    const { runCommands } = await import('./roles/commands.ts')
    process.exitCode = await runCommands(args)
  }
}

start(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`volbridge: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
