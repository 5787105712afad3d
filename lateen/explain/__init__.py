"""Why a request goes where it goes: a walk over the very configuration that Envoy gets."""
