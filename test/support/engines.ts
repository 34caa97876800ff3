import { dockerAvailable } from './docker.ts'

/** The engines that a user's tests run on here. */
export const engines: readonly ('process' | 'docker')[] = dockerAvailable ? ['process', 'docker'] : ['process']

/** A service module that answers without needing anything; `n` chunks, `pause` seconds before each. */
export const plainModule = {
  'service.py': `
import time

def SERVICE_LOAD_MODELS(Models):
    for Name, Config in Models.items():
        time.sleep(Config.get("load_seconds", 0))
        Config["_private_loaded"] = True

def SERVICE_OFFLOAD_MODELS(Models):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    for Number in range(UserParameters.get("n", 1)):
        time.sleep(UserParameters.get("pause", 0))
        yield {"text": str(Number)}
`,
}
