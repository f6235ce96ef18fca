from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("deployments", "0001_initial")]

    operations = [migrations.RemoveField(model_name="gateway", name="rendered_sha256")]
