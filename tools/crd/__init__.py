"""The CustomResourceDefinition of FuseJobs, made from the pydantic models and the rules between fields. Nothing is said
twice: a field, a bound or a rule that is changed there is changed here."""

from tools.crd.definition import crd_yaml, custom_resource_definition

__all__ = ["crd_yaml", "custom_resource_definition"]
